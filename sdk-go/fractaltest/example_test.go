package fractaltest_test

import (
	"context"
	"fmt"
	"strings"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

// A client that is told to come back in seven seconds does so, in no time.
func Example() {
	clock := fractaltest.NewFakeClock(fractaltest.StartMs)
	script := fractaltest.NewScriptedTransport(clock,
		fractaltest.Reply{Status: 503, Headers: [][2]string{{"Retry-After", "7"}}},
		fractaltest.Recorded())
	signer, err := fractal.NewHMACSigner([]byte(strings.Repeat("k", 32)), "k1")
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := fractal.New("https://eu.example", signer, fractal.WithTenant("acme"),
		fractal.WithClock(clock), fractal.WithTransport(script),
		fractal.WithRandom(fractaltest.NewSeededRandom(1)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	submitted, err := client.Submit(context.Background(), fractal.Record{
		ShardID: "sensor-7", Epoch: 1, SentAt: "2026-01-15T12:00:00Z",
		MerkleRoot: strings.Repeat("3f", 32), Scales: []int64{2, 4, 8},
		NJ: map[string]int64{"2": 2, "4": 4, "8": 8}, DHat: 1, CohStar: 0.5, VStar: []float64{1},
		R: 0.5, Regime: fractal.Mixed, Budget: 0.35,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(submitted.Outcome.Accepted, submitted.Raw.Attempts, clock.WaitsMs()[0] >= 7_000)
	// Output: true 2 true
}

// Every language draws the same numbers from the same seed.
func ExampleSeededRandom() {
	fmt.Println(fractaltest.NewSeededRandom(0).Float64())
	// Output: 0.8833108082136426
}
