package main

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"fractal-lba.example/sdk-go/ring"
)

func init() {
	operations["ring.key"] = ringKey
	operations["ring.pick"] = ringPick
	operations["ring.pick_n"] = ringPickN
	operations["ring.shares"] = ringShares
	operations["ring.ranges"] = ringRanges
	operations["ring.movement"] = ringMovement
}

// ringOf builds what a case says; health is no input of a ring (ring 1.6).
func ringOf(args members) (*ring.Ring, error) {
	shards := []ring.Shard{}
	for _, each := range args.list("shards") {
		weight := 1
		if each.has("weight") {
			weight = int(each.number("weight"))
		}
		shards = append(shards, ring.Shard{Name: each.text("name"), Weight: weight})
	}
	if !args.has("vnodes") {
		return ring.New(shards)
	}
	return ring.New(shards, ring.WithVNodes(int(args.number("vnodes"))))
}

func counted(share float64) string {
	return fmt.Sprintf("%.0f/%d", share*ring.Hashes, uint64(ring.Hashes))
}

func u32(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func ringKey(args members) (members, error) {
	key := ring.Key(string(args.bytes("tenant")), args.text("pcs_id"))
	return members{"key": hex.EncodeToString([]byte(key)), "point": u32(ring.Point(key))}, nil
}

func ringPick(args members) (members, error) {
	made, err := ringOf(args)
	if err != nil {
		return nil, err
	}
	owners := []string{}
	for _, key := range args.texts("keys") {
		owners = append(owners, made.Pick(string(must(hex.DecodeString(key)))))
	}
	return members{"owners": owners}, nil
}

func ringPickN(args members) (members, error) {
	made, err := ringOf(args)
	if err != nil {
		return nil, err
	}
	owners := [][]string{}
	for _, key := range args.texts("keys") {
		names, err := made.PickN(string(must(hex.DecodeString(key))), int(args.number("n")))
		if err != nil {
			return nil, err
		}
		owners = append(owners, names)
	}
	return members{"owners": owners}, nil
}

func ringShares(args members) (members, error) {
	made, err := ringOf(args)
	if err != nil {
		return nil, err
	}
	shares := members{}
	for name, share := range made.Shares() {
		shares[name] = counted(share)
	}
	return members{"points": decimal(made.PointCount()), "shares": shares}, nil
}

func ringRanges(args members) (members, error) {
	made, err := ringOf(args)
	if err != nil {
		return nil, err
	}
	found, err := made.Ranges(args.text("name"))
	if err != nil {
		return nil, err
	}
	ranges := [][]string{}
	for _, each := range found {
		ranges = append(ranges, []string{u32(each.Lo), u32(each.Hi)})
	}
	return members{"ranges": ranges}, nil
}

func ringMovement(args members) (members, error) {
	old, err := ringOf(args.under("old"))
	if err != nil {
		return nil, err
	}
	next, err := ringOf(args.under("new"))
	if err != nil {
		return nil, err
	}
	movement, ranges := ring.MovementOf(old, next), [][]string{}
	for _, each := range movement.Ranges {
		ranges = append(ranges, []string{u32(each.Lo), u32(each.Hi), each.From, each.To})
	}
	return members{"share": counted(movement.Share), "ranges": ranges}, nil
}
