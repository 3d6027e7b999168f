// Command go is the testee of the Go SDK: it reads requests, asks the SDK, writes answers
// (conformance/PROTOCOL.md). The other files hold one function per operation; each takes the
// arguments of a case and gives its answer. An error of the SDK is an answer, anything else ends
// this program.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/ring"
)

const (
	protocol         = 1
	noCommonProtocol = 3
	inFlight         = 64
	lineBytesMax     = 1 << 20
)

type (
	members   map[string]any
	operation func(args members) (members, error)
)

// operations is filled by the files that know one.
var operations = map[string]operation{}

// needs says which operation stands for a level.
var needs = []struct{ level, op string }{
	{"core", "canon.record"}, {"ed25519", "sign.ed25519"}, {"client", "client.submit"},
	{"outbox", "outbox.recover"}, {"ring", "ring.pick"},
}

func greeting() members {
	levels := []string{}
	for _, need := range needs {
		if operations[need.op] != nil {
			levels = append(levels, need.level)
		}
	}
	ops := []string{}
	for op := range operations {
		ops = append(ops, op)
	}
	slices.Sort(ops)
	return members{
		"protocol": protocol,
		"testee": members{
			"name": "sdk-go", "version": fractal.SDKVersion, "language": "go",
			"runtime": runtime.Version(), "os": runtime.GOOS + "/" + runtime.GOARCH,
		},
		"ops": ops, "levels": levels, "in_flight": inFlight,
		"policies": members{
			"verify.off_grid": "accept", "hmac.short_key": "reject",
			"ed25519.small_order_key": "reject", "ed25519.equation": "cofactorless",
		},
	}
}

// message is what the harness sends.
type message struct {
	Cmd, Seq, Op string
	Protocol     int
	Args         members
}

func (m *message) answer() members {
	run := operations[m.Op]
	if run == nil {
		return members{"seq": m.Seq, "skip": members{"reason": m.Op + " is not known here"}}
	}
	ok, err := run(m.Args)
	var fault *fractal.Error
	switch {
	case err == nil:
		return members{"seq": m.Seq, "ok": ok}
	case errors.As(err, &fault):
		failed := members{"code": fault.Code, "message": fault.Message}
		return members{"seq": m.Seq, "err": failed}
	case errors.Is(err, ring.ErrInvalid):
		failed := members{"code": ring.ErrInvalid.Error(), "message": err.Error()}
		return members{"seq": m.Seq, "err": failed}
	}
	panic(fmt.Sprintf("%s: no error of the SDK: %v", m.Seq, err))
}

// writer writes whole lines, from many goroutines.
type writer struct {
	lock sync.Mutex
	out  io.Writer
}

func (w *writer) write(answer members) {
	line, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	if _, err := w.out.Write(append(line, '\n')); err != nil {
		os.Exit(1) // nobody reads any more
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineBytesMax)
	out := &writer{out: os.Stdout}
	var open sync.WaitGroup
	for lines.Scan() {
		var next message
		if err := json.Unmarshal(lines.Bytes(), &next); err != nil {
			panic(err)
		}
		switch next.Cmd {
		case "hello":
			if next.Protocol < protocol {
				os.Exit(noCommonProtocol)
			}
			out.write(greeting())
		case "run":
			open.Go(func() { out.write(next.answer()) })
		case "bye":
			open.Wait()
			return
		}
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
	open.Wait()
}
