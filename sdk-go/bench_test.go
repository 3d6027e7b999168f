package fractal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// benchRecord is the record of the specification's speed goals: 876 bytes signed with version 2.
func benchRecord() Record {
	return Record{
		MerkleRoot: strings.Repeat("c3", 32), Epoch: 7, ShardID: "shard-001",
		SentAt: "2026-01-15T12:00:00Z", Scales: []int64{2, 4, 8, 16},
		NJ: map[string]int64{"2": 4, "4": 16, "8": 64, "16": 256}, CohStar: 0.5,
		VStar: []float64{0.6, 0.8}, DHat: 2, R: 0.5, Regime: Mixed, Budget: 0.35,
		PcsID: DerivePcsID(strings.Repeat("c3", 32), 7, "shard-001"),
	}
}

func benchSigner(b *testing.B) *HMACSigner {
	signer, err := NewHMACSigner([]byte(strings.Repeat("k", 32)), "k1")
	if err != nil {
		b.Fatal(err)
	}
	return signer
}

func BenchmarkSignV1(b *testing.B) {
	record, signer := benchRecord(), benchSigner(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := SignV1(record, signer); err != nil {
			b.Fatal(err)
		}
	}
}

// plainRecord is what a program would write that knows no canonical form.
type plainRecord struct {
	PcsID      string           `json:"pcs_id"`
	Schema     string           `json:"schema"`
	Version    string           `json:"version"`
	ShardID    string           `json:"shard_id"`
	Epoch      uint64           `json:"epoch"`
	Attempt    uint64           `json:"attempt"`
	SentAt     string           `json:"sent_at"`
	Seed       uint64           `json:"seed"`
	Scales     []int64          `json:"scales"`
	NJ         map[string]int64 `json:"N_j"`
	CohStar    float64          `json:"coh_star"`
	VStar      []float64        `json:"v_star"`
	DHat       float64          `json:"D_hat"`
	R          float64          `json:"r"`
	Regime     string           `json:"regime"`
	Budget     float64          `json:"budget"`
	MerkleRoot string           `json:"merkle_root"`
	Ft         struct {
		OutboxSeq   uint64   `json:"outbox_seq"`
		Degraded    bool     `json:"degraded"`
		Fallbacks   []string `json:"fallbacks"`
		ClockSkewMs int64    `json:"clock_skew_ms"`
	} `json:"ft"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Sig string `json:"sig"`
}

func plain(r Record) plainRecord {
	return plainRecord{
		PcsID: r.PcsID, Schema: Schema, Version: Version, ShardID: r.ShardID,
		Epoch: r.Epoch, Attempt: 1, SentAt: r.SentAt, Seed: r.Seed, Scales: r.Scales, NJ: r.NJ,
		CohStar: r.CohStar, VStar: r.VStar, DHat: r.DHat, R: r.R, Regime: r.Regime,
		Budget: r.Budget, MerkleRoot: r.MerkleRoot, Alg: HMAC, Kid: "k1",
	}
}

// BenchmarkPlainJSONHMAC is the measure of BenchmarkSignV1: the same record written by
// encoding/json, and a MAC over it.
func BenchmarkPlainJSONHMAC(b *testing.B) {
	record, key := plain(benchRecord()), []byte(strings.Repeat("k", 32))
	b.ReportAllocs()
	for b.Loop() {
		text, err := json.Marshal(record)
		if err != nil {
			b.Fatal(err)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(text)
		_ = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
}

func BenchmarkSignV2(b *testing.B) {
	record, signer := benchRecord(), benchSigner(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sign(record, signer, "tenant-a"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignDocumentV2(b *testing.B) {
	signer := benchSigner(b)
	text, err := benchRecord().JSON()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		document, err := Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Sign(document, signer, "tenant-a"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	policy, busy := DefaultRetry(), Result{Status: 429, RetryAfterMs: 7000, HasRetryAfter: true}
	at := Moment{Attempt: 1, U: 0.5, DeadlineMs: 60_000, Quota: QuotaFull}
	b.ReportAllocs()
	for b.Loop() {
		if PlanRetry(policy, busy, at).WaitMs != 7250 {
			b.Fatal("another wait")
		}
	}
}
