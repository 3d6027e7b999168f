// Package ring says which dedup shard owns a key, and what moves from ring to ring (spec/ring.md).
//
// A shard has 150 points for each unit of its weight: the first 4 bytes, big-endian, of the SHA-256
// of `name#0`, `name#1`, ... A key belongs to the first point that is not smaller than its own
// hash, behind the last one to the first; of equal points to the smaller name. With the shards
// `eu-a`, `eu-b` and `eu-c`, the last with weight 2, the key of tenant `acme` and the id of 64
// times `a` belongs to `eu-c`, and after it to `eu-b`.
//
// A ring is a value: the order of its shards changes nothing, and health is no part of it. Who is
// down keeps what it owns. A Ring is safe for concurrent use.
package ring

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// VNodes is how many points one unit of weight has, where nothing is said.
	VNodes = 150

	// VNodesMax is the most points of one unit of weight.
	VNodesMax = 1024

	// ShardsMax is the most shards of a ring, and the most names that one call lists.
	ShardsMax = 1024

	// WeightMax is the largest weight of a shard.
	WeightMax = 16

	// PointsMax is the most points of a ring.
	PointsMax = 1 << 20

	// Hashes is how many hashes there are.
	Hashes = 1 << 32
)

// ErrInvalid is what errors of this package wrap; its text is the code of spec/errors.json.
var ErrInvalid = errors.New("config_invalid")

var shardName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// Shard names one dedup shard and its weight, from 1 to 16. Zero is not "unset" but refused.
type Shard struct {
	Name   string
	Weight int
}

// Range is the hashes from Lo to Hi, both inclusive.
type Range struct{ Lo, Hi uint32 }

// Arc is the hashes from Lo to Hi, both inclusive, and who owns them.
type Arc struct {
	Lo, Hi uint32
	Owner  string
}

// Moved is the hashes from Lo to Hi, both inclusive, and who owns them before and after.
type Moved struct {
	Lo, Hi   uint32
	From, To string
}

// Movement is what changes its owner between two rings. Share is a count of hashes over 2^32,
// which a float64 holds exactly.
type Movement struct {
	Share  float64
	Ranges []Moved
}

// Ring spreads keys over dedup shards.
type Ring struct {
	names  []string // of the shards, sorted
	points []uint32 // in ring order
	owners []uint16 // of each point, as an index of names; one more than points: the first again
}

// Option is an option of New.
type Option func(*options)

type options struct{ vnodes int }

// WithVNodes sets how many points one unit of weight has, from 1 to 1024.
func WithVNodes(count int) Option {
	return func(o *options) { o.vnodes = count }
}

// New builds a ring. An error wraps ErrInvalid and says which shard is at fault.
func New(shards []Shard, given ...Option) (*Ring, error) {
	chosen := options{vnodes: VNodes}
	for _, option := range given {
		option(&chosen)
	}
	total, err := check(shards, chosen.vnodes)
	if err != nil {
		return nil, err
	}
	sorted := slices.SortedFunc(slices.Values(shards), func(a, b Shard) int {
		return strings.Compare(a.Name, b.Name)
	})
	// The rank of a name below its point: sorted as one number, equal points are in name order.
	ranked := make([]uint64, 0, total)
	r := &Ring{names: make([]string, len(sorted))}
	for rank, shard := range sorted {
		r.names[rank] = shard.Name
		for i := range chosen.vnodes * shard.Weight {
			point := hashPoint(shard.Name + "#" + strconv.Itoa(i))
			ranked = append(ranked, uint64(point)<<16|uint64(rank))
		}
	}
	slices.Sort(ranked)
	r.points, r.owners = make([]uint32, total), make([]uint16, total+1)
	for index, each := range ranked {
		r.points[index], r.owners[index] = uint32(each>>16), uint16(each&0xFFFF)
	}
	r.owners[total] = r.owners[0]
	return r, nil
}

// check refuses what is no ring before anything is hashed, and counts the points of what is one.
func check(shards []Shard, vnodes int) (int, error) {
	if err := within("vnodes", vnodes, VNodesMax); err != nil {
		return 0, err
	}
	if err := within("shards", len(shards), ShardsMax); err != nil {
		return 0, err
	}
	total, seen := 0, make(map[string]bool, len(shards))
	for index, shard := range shards {
		place := fmt.Sprintf("shards[%d]", index)
		if !shardName.MatchString(shard.Name) {
			return 0, fmt.Errorf("%w: %s.Name: expected [a-z0-9-], 1 to 64 of them, got %.80q",
				ErrInvalid, place, shard.Name)
		}
		if seen[shard.Name] {
			return 0, fmt.Errorf("%w: %s.Name: %s is there twice", ErrInvalid, place, shard.Name)
		}
		seen[shard.Name] = true
		if err := within(place+".Weight", shard.Weight, WeightMax); err != nil {
			return 0, err
		}
		total += vnodes * shard.Weight
	}
	return total, within("points", total, PointsMax)
}

func within(what string, value, most int) error {
	if value < 1 || value > most {
		return fmt.Errorf("%w: %s: expected 1 to %d, got %d", ErrInvalid, what, most, value)
	}
	return nil
}

func hashPoint(text string) uint32 {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint32(sum[:])
}

// Point is the hash of a key.
func Point(key string) uint32 { return hashPoint(key) }

// Key writes the key of a record: its tenant and its id with a bar between, in UTF-8.
func Key(tenant, pcsID string) string { return tenant + "|" + pcsID }

// PointCount is the number of points.
func (r *Ring) PointCount() int { return len(r.points) }

// at is the index of the point to which a key belongs; behind the last one it is their number.
func (r *Ring) at(key string) int {
	index, _ := slices.BinarySearch(r.points, hashPoint(key))
	return index
}

// Pick names the owner of a key.
func (r *Ring) Pick(key string) string { return r.names[r.owners[r.at(key)]] }

// PickN names the owner, then the next other shards in ring order, up to n.
func (r *Ring) PickN(key string, n int) ([]string, error) {
	if err := within("n", n, ShardsMax); err != nil {
		return nil, err
	}
	names := make([]string, 0, min(n, len(r.names)))
	met := make([]bool, len(r.names))
	for at := r.at(key); len(names) < cap(names); at++ {
		if owner := r.owners[at%len(r.points)]; !met[owner] {
			met[owner] = true
			names = append(names, r.names[owner])
		}
	}
	return names, nil
}

// Shares gives the share of every shard: a count of hashes over 2^32, which a float64 holds
// exactly.
func (r *Ring) Shares() map[string]float64 {
	shares := make(map[string]float64, len(r.names))
	for _, name := range r.names {
		shares[name] = 0
	}
	for _, each := range r.Arcs() {
		shares[each.Owner] += float64(uint64(each.Hi)-uint64(each.Lo)+1) / Hashes
	}
	return shares
}

// Ranges gives the hashes that a shard owns, as the fewest ranges, ascending.
func (r *Ring) Ranges(name string) ([]Range, error) {
	if !slices.Contains(r.names, name) {
		return nil, fmt.Errorf("%w: name: the ring has no shard %.80q", ErrInvalid, name)
	}
	ranges := []Range{}
	for _, each := range r.Arcs() {
		if each.Owner == name {
			ranges = append(ranges, Range{each.Lo, each.Hi})
		}
	}
	return ranges, nil
}

// Arcs gives every hash once with its owner, as the fewest ranges, ascending.
func (r *Ring) Arcs() []Arc {
	arcs := []Arc{{0, r.points[0], r.names[r.owners[0]]}}
	for index, point := range append(r.points[1:len(r.points):len(r.points)], Hashes-1) {
		last := &arcs[len(arcs)-1]
		switch owner := r.names[r.owners[index+1]]; {
		case point == last.Hi: // of equal points the later ones own nothing
		case owner == last.Owner:
			last.Hi = point
		default:
			arcs = append(arcs, Arc{last.Hi + 1, point, owner})
		}
	}
	return arcs
}

// MovementOf compares two rings: what changes its owner, as the fewest ranges, ascending.
func MovementOf(old, next *Ring) Movement {
	befores, afters := old.Arcs(), next.Arcs()
	ranges, count := []Moved{}, uint64(0)
	for lo := uint64(0); lo < Hashes; {
		before, after := befores[0], afters[0]
		hi := min(before.Hi, after.Hi)
		if from, to := before.Owner, after.Owner; from != to {
			ranges = append(ranges, Moved{uint32(lo), hi, from, to})
			count += uint64(hi) - lo + 1
		}
		if before.Hi == hi {
			befores = befores[1:]
		}
		if after.Hi == hi {
			afters = afters[1:]
		}
		lo = uint64(hi) + 1
	}
	return Movement{float64(count) / Hashes, ranges}
}
