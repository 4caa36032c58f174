;; erase.wat: a turn makes a page of zeros of the one that the program began with.
(module
  (memory (export "memory") 2)
  (data (i32.const 65536) "what the program began with")
  (func (export "driftwood_receive") (result i32)
    (memory.fill (i32.const 65536) (i32.const 0) (i32.const 4096))
    (i32.const 0)))
