;; early.wat: asks the door while it initialises itself, and replies with what it was told.
(module
  (import "driftwood" "enter" (func $enter (param i32 i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "_initialize")
    (i32.store (i32.const 0)
      (call $enter (i32.const 64) (i32.const 0) (i32.const 128) (i32.const 0) (i32.const 0) (i64.const 0))))
  (func (export "driftwood_receive") (result i32)
    (i32.store16 (i32.const 64) (i32.const 2)) ;; DW_OP_REPLY
    (i32.store (i32.const 84) (i32.const 4))   ;; len0, ptr0 is 0
    (drop (call $enter (i32.const 64) (i32.const 1) (i32.const 128) (i32.const 1) (i32.const 1) (i64.const -1)))
    (i32.const 0)))
