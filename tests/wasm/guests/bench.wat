;; What bench.c calls.
(module
  (import "driftwood" "enter" (func $enter (param i32 i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (global (mut i32) (i32.const 0))
  (data (i32.const 8) "data")
  (func (export "driftwood_receive") (result i32) (i32.const 0))
  (func (export "loop") (local $i i32)
    (loop $again
      (drop (call $enter (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0)))
      (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2000000))))))
