package ring_test

import (
	"fmt"
	"log"
	"strings"

	"fractal-lba.example/sdk-go/ring"
)

func Example() {
	shards := []ring.Shard{{"eu-a", 1}, {"eu-b", 1}, {"eu-c", 2}}
	spread, err := ring.New(shards)
	if err != nil {
		log.Fatal(err)
	}
	key := ring.Key("acme", strings.Repeat("a", 64))
	fmt.Println(spread.Pick(key))
	places, err := spread.PickN(key, 2)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(places)
	// Output:
	// eu-c
	// [eu-c eu-b]
}
