// Package line makes the records that the samples send, and reads what they are told.
package line

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	fractal "fractal-lba.example/sdk-go"
)

// Record describes eight points on a line.
func Record(epoch uint64, shardID string) fractal.Record {
	return fractal.Record{
		ShardID:    shardID,
		Epoch:      epoch,
		SentAt:     time.Now().UTC().Format("2006-01-02T15:04:05Z"),
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

// FirstEpoch reads the argument with this index; the default is 1.
func FirstEpoch(index int) uint64 {
	if len(os.Args) <= index {
		return 1
	}
	epoch, err := strconv.ParseUint(os.Args[index], 10, 64)
	Check(err)
	return epoch
}

// Client makes a client of FLK_ENDPOINT, FLK_TENANT, PCS_KID and PCS_HMAC_KEY.
func Client(options ...fractal.Option) *fractal.Client {
	signer, err := fractal.SignerFromEnv(os.Getenv)
	Check(err)
	options = append(options, fractal.WithTenant(os.Getenv("FLK_TENANT")))
	client, err := fractal.New(os.Getenv("FLK_ENDPOINT"), signer, options...)
	Check(err)
	return client
}

// Check ends the program if there is an error.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
