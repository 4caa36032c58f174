/* make_corpus.c: writes the corpora of the GGUF fuzzers: into the folder that is named, tests/model/gguf/corpus, and into tests/model/weights/corpus. Run it when make_gguf.c changes; a test
 * (corpus_is_what_make_gguf_writes) tells when it must be. */
#include <stdio.h>

#include "model/kit/make_gguf.h"
#include "os/os.h"

static int save(const char *folder, const char *name, dw_writer *w) {
    char path[1024];
    dw_error err = {0};
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    dw_status status = w->status == DW_OK ? dw_os_write_file(path, w->data, w->size, &err) : w->status;
    if (status != DW_OK) fprintf(stderr, "%s: %s\n", path, err.text);
    dw_writer_deinit(w);
    return status == DW_OK ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    dw_writer w;
    dw_writer_init(&w);
    make_all_types(&w);
    int failed = save(argv[1], "all_types.gguf", &w);
    dw_writer_init(&w);
    make_llama(&w, &(make_vocabulary){.byte_pairs = false});
    failed |= save(argv[1], "sentencepiece.gguf", &w);
    dw_writer_init(&w);
    make_llama(&w, &(make_vocabulary){.byte_pairs = true});
    failed |= save(argv[1], "byte_pairs.gguf", &w);
    dw_writer_init(&w);
    make_bundle(&w, (const make_part_of[]){{0, 3, 3, {0}}, {1, 3, 3, {"a", "b"}}, {2, 3, 3, {"c"}}}, 3);
    failed |= save(argv[1], "parts.bundle", &w);
    dw_writer_init(&w);
    make_whole_model(&w, NULL, 0);
    failed |= save(argv[1], "../../weights/corpus/whole_model.gguf", &w);
    dw_writer_init(&w);
    make_word_pieces(&w);
    failed |= save(argv[1], "word_pieces.gguf", &w);
    return failed;
}
