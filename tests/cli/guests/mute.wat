;; A module that is neither an actor nor a command.
(module (memory (export "memory") 1) (func (export "something")))
