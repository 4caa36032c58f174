;; A program that never ends a turn.
(module
  (memory (export "memory") 1)
  (func (export "driftwood_receive") (result i32)
    (loop $for_ever (br $for_ever))
    (unreachable)))
