// Command outboxchild fills an outbox, or finishes what another one left: the Go part of
// conformance/tests/test_outbox_interchange.py.
//
// `outboxchild DIR URL [LEVEL]` opens the outbox in DIR, says what it found there as `found ENTRIES
// DEAD` and `dead ID STATUS CODE BODY`, then reads lines: a record is kept and answered by `kept
// ID`, `flush MS` is a flush and answered by `flushed ENTRIES DEAD`. Acknowledged entries are told
// as `acknowledged ID`. With a level there is a read token, and counts of what is held stand behind
// those of what is dead. If the outbox cannot be opened, the code of the error is all it says.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	fractal "fractal-lba.example/sdk-go"
)

func main() {
	box, err := fractal.OpenOutbox(os.Args[1], fractal.WithBackground(false))
	var known *fractal.Error
	if errors.As(err, &known) {
		fmt.Println(known.Code)
		return
	}
	say("found", box.Stats())
	for _, letter := range must(box.Dead()) {
		body := letter.Letter.Body
		fmt.Printf("dead %s %d %s %x\n", letter.ID(), letter.Status, letter.Code, body)
	}
	key := make([]byte, 32)
	for index := range key {
		key[index] = byte(index)
	}
	hooks := fractal.Hooks{OnOutbox: func(event fractal.OutboxEvent) {
		if event.Kind == "acknowledged" {
			fmt.Println("acknowledged", event.ID)
		}
	}}
	options := []fractal.Option{
		fractal.WithTenant("acme"), fractal.WithOutbox(box), fractal.WithHooks(hooks),
	}
	if hasLevel() {
		options = append(options, fractal.WithDurability(os.Args[3]),
			fractal.WithToken(fractal.NewSecret([]byte("t"))))
	}
	client := must(fractal.New(os.Args[2], must(fractal.NewHMACSigner(key, "k1")), options...))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		obey(client, lines.Text())
	}
	if err := errors.Join(client.Close(), box.Close()); err != nil {
		panic(err)
	}
}

func obey(client *fractal.Client, line string) {
	if ms, isFlush := strings.CutPrefix(line, "flush "); isFlush {
		timeout := time.Duration(must(strconv.Atoi(ms))) * time.Millisecond
		say("flushed", must(client.Flush(context.Background(), timeout)))
		return
	}
	record := must(fractal.Parse([]byte(line)))
	fmt.Println("kept", must(client.Enqueue(context.Background(), record)))
}

func hasLevel() bool { return len(os.Args) > 3 }

func say(word string, stats fractal.OutboxStats) {
	if hasLevel() {
		fmt.Println(word, stats.Entries, stats.Dead, stats.Held)
	} else {
		fmt.Println(word, stats.Entries, stats.Dead)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
