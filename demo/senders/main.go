// Command senders submits each line of its input, a record without a signature, and prints the
// answer: {"pcs_id", "replayed", "body"}, the body in hex.
//
// It reads FLK_ENDPOINT, FLK_TENANT, PCS_KID and PCS_HMAC_KEY.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	fractal "fractal-lba.example/sdk-go"
)

func main() {
	if err := send(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func send() error {
	signer, err := fractal.SignerFromEnv(os.Getenv)
	if err != nil {
		return err
	}
	tenant := fractal.WithTenant(os.Getenv("FLK_TENANT"))
	client, err := fractal.New(os.Getenv("FLK_ENDPOINT"), signer, tenant)
	if err != nil {
		return err
	}
	defer client.Close()
	lines, answers := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	lines.Buffer(nil, 1<<17)
	for lines.Scan() {
		record, err := fractal.ParseRecord(lines.Bytes())
		if err != nil {
			return err
		}
		submitted, err := client.Submit(context.Background(), record)
		if err != nil {
			return err
		}
		answer := map[string]any{
			"pcs_id":   submitted.Outcome.PcsID,
			"replayed": submitted.Replayed,
			"body":     hex.EncodeToString(submitted.Raw.Body),
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}
