build_bench() { die "not yet"; }
