package ring

// What exactly comes out is in the published vectors, which are played here; beside them stand
// properties of rings that are drawn.

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

type (
	givenShard struct{ Name, Weight string }
	givenRing  struct {
		Shards []givenShard
		VNodes string
	}
	arguments struct {
		givenRing
		Tenant, N, Name string
		PcsID           string `json:"pcs_id"`
		Keys            []string
		Old, New        givenRing
	}
	vectorCase struct {
		ID     string
		Args   arguments
		Expect map[string]any
	}
)

// ring builds what a case says; health is no input of a ring (ring 1.6).
func (g givenRing) ring() (*Ring, error) {
	shards := []Shard{}
	for _, each := range g.Shards {
		weight := 1
		if each.Weight != "" {
			weight = number(each.Weight)
		}
		shards = append(shards, Shard{each.Name, weight})
	}
	if g.VNodes == "" {
		return New(shards)
	}
	return New(shards, WithVNodes(number(g.VNodes)))
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

func fromHex(text string) string {
	raw, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func counted(share float64) string { return fmt.Sprintf("%.0f/4294967296", share*Hashes) }

var plays = map[string]func(arguments) (any, error){
	"ring.key": func(a arguments) (any, error) {
		key := Key(fromHex(a.Tenant), a.PcsID)
		point := strconv.FormatUint(uint64(Point(key)), 10)
		return map[string]any{"key": hex.EncodeToString([]byte(key)), "point": point}, nil
	},
	"ring.pick": func(a arguments) (any, error) {
		r, err := a.ring()
		owners := []string{}
		for index := 0; err == nil && index < len(a.Keys); index++ {
			owners = append(owners, r.Pick(fromHex(a.Keys[index])))
		}
		return map[string]any{"owners": owners}, err
	},
	"ring.pick_n": func(a arguments) (any, error) {
		r, err := a.ring()
		owners := [][]string{}
		for index := 0; err == nil && index < len(a.Keys); index++ {
			var names []string
			names, err = r.PickN(fromHex(a.Keys[index]), number(a.N))
			owners = append(owners, names)
		}
		return map[string]any{"owners": owners}, err
	},
	"ring.shares": func(a arguments) (any, error) {
		r, err := a.ring()
		if err != nil {
			return nil, err
		}
		shares := map[string]string{}
		for name, share := range r.Shares() {
			shares[name] = counted(share)
		}
		return map[string]any{"points": strconv.Itoa(r.PointCount()), "shares": shares}, nil
	},
	"ring.ranges": func(a arguments) (any, error) {
		r, err := a.ring()
		if err != nil {
			return nil, err
		}
		found, err := r.Ranges(a.Name)
		ranges := [][]string{}
		for _, each := range found {
			ranges = append(ranges, []string{fmt.Sprint(each.Lo), fmt.Sprint(each.Hi)})
		}
		return map[string]any{"ranges": ranges}, err
	},
	"ring.movement": func(a arguments) (any, error) {
		old, err := a.Old.ring()
		if err != nil {
			return nil, err
		}
		next, err := a.New.ring()
		if err != nil {
			return nil, err
		}
		movement, ranges := MovementOf(old, next), [][]string{}
		for _, each := range movement.Ranges {
			ranges = append(ranges, []string{fmt.Sprint(each.Lo), fmt.Sprint(each.Hi), each.From, each.To})
		}
		return map[string]any{"share": counted(movement.Share), "ranges": ranges}, nil
	},
}

func TestEveryVectorGivesWhatItSays(t *testing.T) {
	paths, err := filepath.Glob("../../golden/vectors/ring/*.json")
	if err != nil || len(paths) != len(plays) {
		t.Fatalf("found %d files of vectors: %v", len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var suite struct {
			Op    string
			Cases []vectorCase
		}
		if err := json.Unmarshal(text, &suite); err != nil {
			t.Fatal(err)
		}
		for _, each := range suite.Cases {
			got, err := plays[suite.Op](each.Args)
			if err != nil {
				got = map[string]any{"code": codeOf(err)}
			}
			if !same(each.Expect, got) {
				t.Errorf("%s: expected %v, got %v (%v)", each.ID, each.Expect, got, err)
			}
		}
	}
}

func codeOf(err error) string {
	if errors.Is(err, ErrInvalid) {
		return ErrInvalid.Error()
	}
	return "not a code: " + err.Error()
}

// same compares what JSON would make of both.
func same(want map[string]any, got any) bool {
	text, err := json.Marshal(got)
	var read map[string]any
	return err == nil && json.Unmarshal(text, &read) == nil && reflect.DeepEqual(want, read)
}

// --- properties -----------------------------------------------------------------------------

// drawn gives a ring of up to six shards with few points.
func drawn(t *testing.T, chance *rand.Rand) ([]Shard, *Ring, Option) {
	t.Helper()
	shards := []Shard{}
	for i := range 1 + chance.IntN(6) {
		shards = append(shards, Shard{fmt.Sprintf("s-%d", i*chance.IntN(40)+i), 1 + chance.IntN(4)})
	}
	slices.SortFunc(shards, func(a, b Shard) int { return strings.Compare(a.Name, b.Name) })
	shards = slices.CompactFunc(shards, func(a, b Shard) bool { return a.Name == b.Name })
	chance.Shuffle(len(shards), func(i, j int) { shards[i], shards[j] = shards[j], shards[i] })
	option := WithVNodes(1 + chance.IntN(8))
	made, err := New(shards, option)
	if err != nil {
		t.Fatal(err)
	}
	return shards, made, option
}

func TestEveryHashHasOneOwnerAndTheSharesAddUp(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		shards, made, option := drawn(t, chance)
		slices.Reverse(shards)
		other, err := New(shards, option)
		if err != nil {
			t.Fatal(err)
		}
		sum, ranges := 0.0, []Range{}
		for name, share := range made.Shares() {
			sum += share
			owned, err := made.Ranges(name)
			if err != nil {
				t.Fatal(err)
			}
			ranges = append(ranges, owned...)
		}
		slices.SortFunc(ranges, func(a, b Range) int { return int(a.Lo>>1) - int(b.Lo>>1) })
		next := uint64(0)
		for _, each := range ranges {
			if uint64(each.Lo) != next {
				t.Fatalf("expected a range at %d, got %v", next, each)
			}
			next = uint64(each.Hi) + 1
		}
		if next != Hashes || sum != 1 {
			t.Fatalf("ranges end at %d, shares are %v", next, sum)
		}
		if moved := MovementOf(made, other); moved.Share != 0 || len(moved.Ranges) != 0 {
			t.Fatalf("the order of the shards moves %v", moved)
		}
	}
}

func TestAKeyMovesIfAndOnlyIfItsHashIsInTheMovement(t *testing.T) {
	chance := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		_, old, _ := drawn(t, chance)
		_, next, _ := drawn(t, chance)
		movement := MovementOf(old, next)
		for i := range 20 {
			key := Key("acme", strconv.Itoa(i))
			want := ""
			if from, to := old.Pick(key), next.Pick(key); from != to {
				want = from + " to " + to
			}
			got := ""
			for _, each := range movement.Ranges {
				if each.Lo <= Point(key) && Point(key) <= each.Hi {
					got += each.From + " to " + each.To
				}
			}
			if got != want {
				t.Fatalf("%s: expected %q, got %q", key, want, got)
			}
		}
	}
}

func TestMoreNamesBeginWithFewerAndAreDistinct(t *testing.T) {
	chance := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		shards, made, _ := drawn(t, chance)
		all, err := made.PickN("key", ShardsMax)
		if err != nil || len(all) != len(shards) || all[0] != made.Pick("key") {
			t.Fatalf("got %v (%v) of %v", all, err, shards)
		}
		for n := range len(all) {
			if fewer, err := made.PickN("key", n+1); err != nil || !slices.Equal(fewer, all[:n+1]) {
				t.Fatalf("%d of %v: got %v (%v)", n+1, all, fewer, err)
			}
		}
		slices.Sort(all)
		if len(slices.Compact(all)) != len(shards) {
			t.Fatalf("%v are not distinct", all)
		}
	}
}

func TestAnErrorSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, row := range []struct {
		shards []Shard
		said   string
	}{
		{nil, "config_invalid: shards: expected 1 to 1024, got 0"},
		{[]Shard{{"a", 1}, {"B", 1}}, `config_invalid: shards[1].Name: expected [a-z0-9-], 1 to 64 of them, got "B"`},
		{[]Shard{{"a", 1}, {"a", 2}}, "config_invalid: shards[1].Name: a is there twice"},
		{[]Shard{{"a", 0}}, "config_invalid: shards[0].Weight: expected 1 to 16, got 0"},
	} {
		if _, err := New(row.shards); err == nil || err.Error() != row.said {
			t.Errorf("expected %q, got %v", row.said, err)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	shards := []Shard{}
	for i := range 8 {
		shards = append(shards, Shard{fmt.Sprintf("shard-%d", i), 1})
	}
	made, err := New(shards)
	if err != nil {
		b.Fatal(err)
	}
	key := Key("acme", strings.Repeat("a", 64))
	for b.Loop() {
		made.Pick(key)
	}
}
