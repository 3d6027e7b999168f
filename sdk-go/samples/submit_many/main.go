// Command submit_many submits a hundred records at once; answers come in the order of the records.
//
//	export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
//	go run ./samples/submit_many [first epoch]
package main

import (
	"context"
	"errors"
	"fmt"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/samples/internal/line"
)

const records = 100

func main() {
	firstEpoch := line.FirstEpoch(1)
	client := line.Client()
	defer client.Close()

	// Records are made one by one: a stream may be longer than memory.
	source := func(yield func(fractal.Submittable) bool) {
		for index := range uint64(records) {
			if !yield(line.Record(firstEpoch+index, "sample/many")) {
				return
			}
		}
	}
	accepted, failed := 0, 0
	for item := range client.SubmitSeq(context.Background(), source, fractal.WithConcurrency(8)) {
		var fault *fractal.Error
		switch {
		case errors.As(item.Err, &fault):
			failed++
			fmt.Println("failed", firstEpoch+uint64(item.Index), fault.Code)
		case item.Result.Outcome.Accepted:
			accepted++
		}
	}
	fmt.Println("accepted", accepted)
	fmt.Println("failed", failed)
}
