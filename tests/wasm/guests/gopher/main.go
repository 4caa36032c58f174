// A Go program with a goroutine that lives across messages, a map and work for the garbage collector.
package main

import (
	"fmt"
	"hash/fnv"
	"math/rand"
	"time"
)

var (
	counts  = map[string]int{}
	words   = []string{"tide", "drift", "wood", "shore", "gull"}
	asked   = make(chan int)
	replied = make(chan uint32)
	history [][]byte
	begun   = time.Now()
)

func worker() {
	sum := fnv.New32a()
	for n := range asked {
		word := words[(n+rand.Intn(3))%len(words)]
		counts[word] += n
		history = append(history, make([]byte, 20000))
		if len(history) > 8 {
			history = history[4:]
		}
		fmt.Fprintf(sum, "%s %d %v %d", word, n, counts, time.Since(begun).Nanoseconds())
		replied <- sum.Sum32()
	}
}

var steps int

func init() { go worker() }

//go:wasmexport driftwood_receive
func receive() int32 {
	steps++
	asked <- steps
	return int32(<-replied)
}

func main() {}
