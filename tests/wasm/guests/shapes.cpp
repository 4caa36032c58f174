/* C++ with virtual functions: tables of functions that are found through pointers in memory. No standard library. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

void *operator new(size_t size) { return malloc(size); }
void operator delete(void *p) noexcept { free(p); }
void operator delete(void *p, size_t) noexcept { free(p); }
extern "C" void __cxa_pure_virtual() { abort(); }

namespace {

struct shape {
    virtual ~shape() {}
    virtual int area() const = 0;
    virtual void grow(int by) = 0;
};

struct square : shape {
    int side;
    explicit square(int s) : side(s) {}
    int area() const override { return side * side; }
    void grow(int by) override { side += by; }
};

struct circle : shape {
    double radius;
    explicit circle(int r) : radius(r) {}
    int area() const override { return static_cast<int>(3.14159 * radius * radius); }
    void grow(int by) override { radius *= 1.0 + by / 100.0; }
};

struct box : square {
    int height;
    box(int s, int h) : square(s), height(h) {}
    int area() const override { return 2 * square::area() + 4 * side * height; }
};

typedef int (*fold)(int, int);
int plus(int a, int b) { return a + b; }
int mix(int a, int b) { return (a << 5) ^ (a >> 27) ^ b; }

struct world {
    shape *shapes[64] = {};
    int count = 0;
    fold how = plus;
    world() { shapes[count++] = new square(3); } /* a constructor that _initialize runs */
} the_world;

}

extern "C" __attribute__((export_name("driftwood_receive"))) int driftwood_receive() {
    world &w = the_world;
    int slot = w.count % 64;
    delete w.shapes[slot];
    switch (w.count % 3) {
    case 0: w.shapes[slot] = new square(w.count); break;
    case 1: w.shapes[slot] = new circle(w.count); break;
    default: w.shapes[slot] = new box(w.count, 2); break;
    }
    w.count++;
    w.how = w.how == plus ? mix : plus;
    int sum = 0;
    for (shape *s : w.shapes)
        if (s) {
            s->grow(1);
            sum = w.how(sum, s->area());
        }
    return sum;
}
