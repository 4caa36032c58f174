;; Exceptions in every form that WebAssembly has them: thrown with values, caught by tag and by any tag, kept as references in
;; locals, passed on and thrown again. What is caught shows in the result and in memory. The exports behind driftwood_receive
;; are for tests of how a turn ends.
(module
  (tag $number (param i32))
  (tag $pair (param i64 f64))
  (tag $empty (export "a tag"))
  (tag $wide (param v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128
                    v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (global $n (mut i32) (i32.const 0))
  (global $none exnref (ref.null exn))
  (table $outside 3 externref) ;; never changed: all null

  (func $throw_below (param $depth i32) (param $n i32)
    (if (i32.eqz (local.get $depth)) (then (throw $number (local.get $n))))
    (call $throw_below (i32.sub (local.get $depth) (i32.const 1)) (local.get $n)))

  (func $throw_one (param $n i32)
    (block $deep (block $nothing (block $of_pair (block $of_number (block $return
      (br_table $return $of_number $of_pair $nothing $deep (i32.rem_u (local.get $n) (i32.const 5))))
      (return))
      (throw $number (local.get $n)))
      (throw $pair (i64.extend_i32_u (local.get $n)) (f64.const 0.5)))
      (throw $empty))
    (call $throw_below (i32.const 50) (local.get $n)))

  ;; Whatever is thrown, as a reference.
  (func $caught (param $n i32) (result exnref)
    (block $any (result exnref)
      (try_table (catch_all_ref $any) (call $throw_one (local.get $n)))
      (global.get $none)))

  ;; Through a frame that catches, looks, and passes on.
  (func $pass_on (param $e exnref) (local $x i32)
    (block $seen (result i32 exnref)
      (try_table (catch_ref $number $seen) (throw_ref (local.get $e)))
      (unreachable))
    (local.set $e)
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16))))
    (throw_ref (local.get $e)))

  (func $work (param $n i32) (result i32) (local $e exnref) (local $i i64) (local $f f64)
    (local.set $e (call $caught (local.get $n)))
    (if (ref.is_null (local.get $e)) (then (return (i32.const 1))))
    (block $was_empty
      (block $was_pair (result i64 f64)
        (block $was_number (result i32)
          (try_table (catch $pair $was_pair) (catch $number $was_number) (catch_all $was_empty)
            (call $pass_on (local.get $e)))
          (unreachable))
        (return (i32.add (i32.const 100))))
      (local.set $f)
      (local.set $i)
      (return (i32.add (i32.wrap_i64 (local.get $i)) (i32.trunc_f64_s (f64.mul (local.get $f) (f64.const 2000))))))
    (i32.const 3))

  (func (export "driftwood_receive") (result i32) (local $x i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (local.set $x (ref.is_null (table.get $outside (i32.rem_u (global.get $n) (i32.const 3)))))
    (local.set $x (i32.add (call $work (global.get $n)) (local.get $x)))
    (i32.store (i32.add (i32.const 128) (i32.mul (i32.and (global.get $n) (i32.const 31)) (i32.const 4))) (local.get $x))
    ;; a test may ask for a turn that ends badly
    (if (i32.eq (i32.load (i32.const 64)) (i32.const 1)) (then (call $throw_below (i32.const 9) (i32.const 9))))
    (local.get $x))

  (func (export "uncaught") (call $throw_below (i32.const 3) (i32.const 1)))
  (func (export "null") (throw_ref (ref.null exn)))

  ;; What the host ends is no exception: nothing here catches it.
  (func (export "exit")
    (block $any (try_table (catch_all $any) (call $exit (i32.const 7))) (unreachable))
    (call $exit (i32.const 8)))
  (func (export "endless")
    (loop $for_ever
      (block $any (try_table (catch_all $any) (loop $inside (br $inside))))
      (br $for_ever)))

  ;; A million exceptions one after another: all are garbage at once.
  (func (export "many") (result i32) (local $i i32)
    (loop $next
      (drop (call $caught (i32.add (i32.mul (local.get $i) (i32.const 5)) (i32.const 1))))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000))))
    (local.get $i))

  (func $values (result v128 v128 v128 v128 v128 v128 v128 v128) (local $v v128)
    (local.get $v) (local.get $v) (local.get $v) (local.get $v) (local.get $v) (local.get $v) (local.get $v) (local.get $v))
  (func $one_wide (result exnref)
    (block $any (result exnref)
      (try_table (catch_all_ref $any)
        (call $values) (call $values) (call $values) (call $values)
        (throw $wide))
      (unreachable)))
  ;; Keeps references in every frame of a recursion, far more than may be.
  (func $hoard (param $depth i32) (result i32) (local $a exnref) (local $b exnref) (local $c exnref) (local $d exnref)
    (local.set $a (call $one_wide))
    (local.set $b (call $one_wide))
    (local.set $c (call $one_wide))
    (local.set $d (call $one_wide))
    (if (result i32) (local.get $depth)
      (then (call $hoard (i32.sub (local.get $depth) (i32.const 1))))
      (else (i32.const 1)))
    (i32.add (ref.is_null (local.get $a)))
    (i32.add (ref.is_null (local.get $b)))
    (i32.add (ref.is_null (local.get $c)))
    (i32.add (ref.is_null (local.get $d))))
  (func (export "hoard_some") (result i32) (call $hoard (i32.const 100)))
  (func (export "hoard") (result i32) (call $hoard (i32.const 1000000))))
