// Command submit submits one record twice: the second answer is the first outcome, byte for byte.
//
//	export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
//	go run ./samples/submit [epoch]
//
// Another epoch is another record; the default is 1.
package main

import (
	"bytes"
	"context"
	"fmt"

	"fractal-lba.example/sdk-go/samples/internal/line"
)

func main() {
	ctx := context.Background()
	record := line.Record(line.FirstEpoch(1), "sample/submit")
	client := line.Client()
	defer client.Close()

	first, err := client.Submit(ctx, record)
	line.Check(err)
	fmt.Println("pcs_id", first.Outcome.PcsID)
	fmt.Println("accepted", first.Outcome.Accepted)

	again, err := client.Submit(ctx, record)
	line.Check(err)
	fmt.Println("replayed", again.Replayed)
	fmt.Println("same", bytes.Equal(again.Raw.Body, first.Raw.Body))
}
