/* thrower.cpp: exceptions as C++ has them: of several types, through frames with destructors, thrown again, kept in an
 * exception_ptr from one message to the next. What is caught, and that nothing is destroyed twice or never, shows in the
 * result. */
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <vector>

/* What the linked part of the library wants of the rest. */
void *operator new(std::size_t size) { return std::malloc(size ? size : 1); }
void operator delete(void *p) noexcept { std::free(p); }
void operator delete(void *p, std::size_t) noexcept { std::free(p); }
extern "C" char *__cxa_demangle(const char *, char *, std::size_t *, int *status) {
    if (status) *status = -2;
    return nullptr;
}
namespace std {
inline namespace __1 {
[[noreturn]] void __libcpp_verbose_abort(const char *, ...) noexcept { std::abort(); }
}
}

namespace {

struct shape {
    virtual ~shape() {}
    virtual int sides() const { return 0; }
};

struct polygon : shape {
    explicit polygon(int n) : n(n) {}
    int sides() const override { return n; }
    int n;
};

struct counted {
    counted() { alive++; }
    ~counted() { alive--; }
    static int alive;
};
int counted::alive;

unsigned turn, sum = 1;
std::exception_ptr kept; /* of the message before */

void work(unsigned n, int depth) {
    counted here;
    std::vector<int> values(n % 17 + 1, (int)n);
    if (depth > 0) return work(n, depth - 1);
    switch (n % 5) {
    case 0: throw (int)n;
    case 1: throw polygon((int)n);
    case 2: throw std::bad_alloc();
    case 3: throw "text";
    default: return;
    }
}

int try_work(unsigned n) {
    try {
        work(n, 10);
        return 100;
    } catch (const polygon &) {
        try {
            throw;
        } catch (shape &again) {
            return again.sides() + 1000;
        }
    } catch (int number) {
        return number + 2000;
    }
}

int rethrow_kept() {
    if (!kept) return 5000;
    try {
        std::rethrow_exception(kept);
    } catch (std::unique_ptr<int> &value) {
        return *value;
    }
}

}

extern "C" __attribute__((export_name("driftwood_receive"))) int driftwood_receive() {
    int result = rethrow_kept();
    turn++;
    try {
        result += try_work(turn);
    } catch (const std::exception &e) {
        result += 3000 + e.what()[0];
    } catch (...) {
        result += 4000;
    }
    try {
        throw std::make_unique<int>((int)turn);
    } catch (...) {
        kept = std::current_exception();
    }
    sum = sum * 31 + (unsigned)result + (unsigned)counted::alive * 1000000;
    return (int)(sum & 0x7fffffff);
}
