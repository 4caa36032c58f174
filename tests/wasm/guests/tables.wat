;; Tables of functions that change in every way there is, from every kind of element segment: what they hold is called in order, so
;; that a table that is not what it should be shows in the result and in memory.
(module
  (type $op (func (param i32) (result i32)))
  (type $fill (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (type $fill)))
  (memory (export "memory") 1)
  (global $n (mut i32) (i32.const 0))
  (global $kept funcref (ref.func $of_a_global))
  (table $a (export "operations") 8 24 funcref)  ;; the second time that it grows it would not fit
  (table $b 2 funcref)
  (table $fills 2 2 funcref)                     ;; one of them is the import
  (table $fixed 3 3 funcref)                     ;; never changed
  (elem (table $a) (i32.const 1) func $add $double)
  (elem (table $b) (i32.const 1) funcref (ref.func $flip))
  (elem (table $fills) (i32.const 0) func $random $count)
  (elem (table $fixed) (i32.const 0) func $add $double $flip)
  (elem $later funcref (ref.func $rotate) (ref.null func) (ref.func $flip) (ref.func $of_a_segment))
  (elem $indices func $double $add $rotate)
  (elem declare func $of_a_declaration)
  (func $add (type $op) (i32.add (local.get 0) (i32.const 17)))
  (func $double (type $op) (i32.mul (local.get 0) (i32.const 2)))
  (func $flip (type $op) (i32.xor (local.get 0) (i32.const 0x5a5a5a5a)))
  (func $rotate (type $op) (i32.rotl (local.get 0) (i32.const 5)))
  (func $of_a_global (type $op) (i32.sub (local.get 0) (i32.const 1)))
  (func $of_a_segment (type $op) (i32.mul (local.get 0) (i32.const 2654435761)))
  (func $of_a_declaration (type $op) (i32.add (local.get 0) (global.get $n)))
  (func $of_an_export (export "of_an_export") (type $op) (i32.rotr (local.get 0) (i32.const 3)))
  (func $never_in_a_table (type $op) (i32.const 0))
  (func $count (type $fill) (i32.store (local.get 0) (i32.add (i32.load (local.get 0)) (local.get 1))) (i32.const 1))

  ;; Calls everything in a table, one after another; empty places count too.
  (func $through_a (param $x i32) (result i32) (local $i i32)
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $a (local.get $i))))
        (then (local.set $x (call_indirect $a (type $op) (local.get $x) (local.get $i)))))
      (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 31)) (local.get $i)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (table.size $a))))
    (local.get $x))
  (func $through_b (param $x i32) (result i32) (local $i i32)
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $b (local.get $i))))
        (then (local.set $x (call_indirect $b (type $op) (local.get $x) (local.get $i)))))
      (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 37)) (local.get $i)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (table.size $b))))
    (local.get $x))

  ;; One way of changing a table a message; the place moves.
  (func $change (param $how i32) (param $at i32)
    (block $grow_b (block $grow_a (block $copy_over (block $copy_inside (block $init_indices (block $init (block $fill (block $clear
    (block $set_global (block $set_export (block $set
      (br_table $set $set_export $set_global $clear $fill $init $init_indices $copy_inside $copy_over $grow_a $grow_b (local.get $how)))
      ;; $set
      (table.set $a (local.get $at) (ref.func $of_a_declaration)) (return))
      ;; $set_export
      (table.set $a (local.get $at) (ref.func $of_an_export)) (return))
      ;; $set_global
      (table.set $b (i32.rem_u (local.get $at) (table.size $b)) (global.get $kept)) (return))
      ;; $clear
      (table.set $a (local.get $at) (ref.null func)) (return))
      ;; $fill
      (table.fill $a (i32.const 2) (table.get $b (i32.const 1)) (i32.const 3)) (return))
      ;; $init
      (table.init $a $later (i32.const 3) (i32.const 0) (i32.const 4)) (return))
      ;; $init_indices
      (table.init $b $indices (i32.const 0) (i32.const 1) (i32.const 2)) (return))
      ;; $copy_inside, onto itself
      (table.copy $a $a (i32.const 2) (i32.const 1) (i32.const 6)) (return))
      ;; $copy_over, from the table that does not change too
      (table.copy $a $b (i32.const 0) (i32.const 0) (i32.const 2))
      (table.copy $b $fixed (i32.const 0) (i32.const 0) (i32.const 2)) (return))
      ;; $grow_a
      (i32.store (i32.const 32) (table.grow $a (table.get $a (local.get $at)) (i32.const 9))) (return))
    ;; $grow_b
    (i32.store (i32.const 36) (table.grow $b (ref.null func) (i32.const 3))))

  (func $swap_fills (local $first funcref)
    (local.set $first (table.get $fills (i32.const 0)))
    (table.set $fills (i32.const 0) (table.get $fills (i32.const 1)))
    (table.set $fills (i32.const 1) (local.get $first)))

  (func (export "driftwood_receive") (result i32) (local $x i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (call $change (i32.rem_u (i32.mul (global.get $n) (i32.const 5)) (i32.const 11)) (i32.rem_u (i32.mul (global.get $n) (i32.const 3)) (i32.const 8)))
    (local.set $x (call_indirect $fills (type $fill) (i32.const 96) (i32.const 8) (i32.and (global.get $n) (i32.const 1))))
    (if (i32.rem_u (global.get $n) (i32.const 3)) (then (call $swap_fills)))
    (local.set $x (call $through_a (i32.add (local.get $x) (i32.load (i32.const 96)))))
    (local.set $x (call $through_b (local.get $x)))
    (local.set $x (call_indirect $fixed (type $op) (local.get $x) (i32.rem_u (global.get $n) (i32.const 3))))
    (i32.store (i32.add (i32.const 128) (i32.mul (i32.and (global.get $n) (i32.const 255)) (i32.const 4))) (local.get $x))
    ;; a test may ask for a turn that ends badly, after everything was changed
    (if (i32.load (i32.const 64)) (then unreachable))
    (i32.and (local.get $x) (i32.const 0x7fffffff))))
