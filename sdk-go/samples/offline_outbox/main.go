// Command offline_outbox keeps records on disk while the server is away, and sends them once it is
// back.
//
//	export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
//	go run ./samples/offline_outbox DIRECTORY [first epoch]
//
// Start it with the server stopped, then start the server: what was enqueued is durable before
// Enqueue returns, survives the end of this program too, and is sent with the same bytes.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/samples/internal/line"
)

const (
	records      = 3
	flushTimeout = 60 * time.Second
)

func main() {
	ctx := context.Background()
	outbox, err := fractal.OpenOutbox(os.Args[1])
	line.Check(err)
	client := line.Client(fractal.WithOutbox(outbox))
	firstEpoch := line.FirstEpoch(2)

	for index := range uint64(records) {
		_, err := client.Enqueue(ctx, line.Record(firstEpoch+index, "sample/outbox"))
		line.Check(err)
	}
	fmt.Println("kept", records)
	left, err := client.Flush(ctx, flushTimeout)
	line.Check(err)
	fmt.Println("waiting", left.Entries)
	fmt.Println("dead", left.Dead)

	line.Check(client.Close())
	line.Check(outbox.Close())
}
