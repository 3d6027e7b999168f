package fractal_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

// exampleRecord describes eight points on a line.
func exampleRecord(epoch uint64) fractal.Record {
	return fractal.Record{
		ShardID:    "sensor-7",
		Epoch:      epoch,
		SentAt:     time.Now().UTC().Format(time.RFC3339),
		MerkleRoot: strings.Repeat("3f", 32),
		Scales:     []int64{2, 4, 8},
		NJ:         map[string]int64{"2": 2, "4": 4, "8": 8},
		DHat:       1,
		CohStar:    0.5,
		VStar:      []float64{1},
		R:          0.5,
		Regime:     fractal.Mixed,
		Budget:     0.35,
	}
}

// demo stands for a server: it records whatever it gets. A program leaves it out.
func demo() []fractal.Option {
	clock := fractaltest.NewFakeClock(fractaltest.StartMs)
	steps := []fractaltest.Step{
		fractaltest.Recorded(), fractaltest.Recorded(), fractaltest.Recorded(),
	}
	return []fractal.Option{
		fractal.WithTenant("demo"),
		fractal.WithTransport(fractaltest.NewScriptedTransport(clock, steps...)),
	}
}

// exampleClient is a client of that server.
func exampleClient(options ...fractal.Option) *fractal.Client {
	signer, err := fractal.NewHMACSigner([]byte(strings.Repeat("k", 32)), "demo")
	if err != nil {
		log.Fatal(err)
	}
	client, err := fractal.New("https://eu.example", signer, append(demo(), options...)...)
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// The key is in PCS_HMAC_KEY (hexadecimal) and PCS_KID. This example needs a server, so it is
// compiled and not run.
func ExampleNew() {
	record := exampleRecord(1)

	signer, err := fractal.SignerFromEnv(os.Getenv)
	if err != nil {
		log.Fatal(err)
	}
	client, err := fractal.New("http://127.0.0.1:8080", signer, fractal.WithTenant("demo"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	submitted, err := client.Submit(context.Background(), record)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(submitted.Outcome.Accepted, submitted.Outcome.PcsID)
}

// Answers come in the order of the records, and one that fails spoils no other.
func ExampleClient_SubmitMany() {
	client := exampleClient()
	defer client.Close()
	records := []fractal.Record{exampleRecord(1), {}, exampleRecord(2)}

	items := client.SubmitMany(context.Background(), records, fractal.WithConcurrency(1))
	for _, item := range items {
		if item.Err != nil {
			fmt.Println(item.Index, errors.Is(item.Err, fractal.ErrValidation))
			continue
		}
		fmt.Println(item.Index, item.Result.Outcome.Accepted)
	}
	// Output:
	// 0 true
	// 1 true
	// 2 true
}

// With an outbox a record is on disk before the first attempt.
func ExampleClient_Enqueue() {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(directory)
	path, record := filepath.Join(directory, "outbox"), exampleRecord(1)

	outbox, err := fractal.OpenOutbox(path)
	if err != nil {
		log.Fatal(err)
	}
	defer outbox.Close()
	client := exampleClient(fractal.WithOutbox(outbox))
	defer client.Close() // before the outbox

	if _, err := client.Enqueue(context.Background(), record); err != nil {
		log.Fatal(err)
	}
	left, err := client.Flush(context.Background(), 30*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(left.Entries, left.Dead)
	// Output: 0 0
}

// Every error has a code, a class, and says whose fault it is.
func ExampleError() {
	client := exampleClient()
	defer client.Close()

	_, err := client.Submit(context.Background(), fractal.Record{ShardID: "sensor-7"})
	var fault *fractal.Error
	if errors.As(err, &fault) {
		fmt.Println(fault.Code, fault.Pointer, fault.Fault(), errors.Is(err, fractal.ErrValidation))
	}
	// Output: hex_invalid /merkle_root caller true
}
