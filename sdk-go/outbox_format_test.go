package fractal

// The outbox's format: frames, recovery, space.

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var sampleLetter = Letter{
	ID: "0000000000000001", PcsID: strings.Repeat("a", 64), Key: strings.Repeat("b", 64),
	Kid: "k1", Tenant: "acme", AtMs: outboxNowMs, Body: []byte("{\"a\":\"\\u0000 \u00e9 \u2028\"}"),
}

func framed(text string) []byte {
	head := make([]byte, frameHeadBytes)
	binary.BigEndian.PutUint32(head, uint32(len(text)))
	binary.BigEndian.PutUint32(head[4:], crc32.ChecksumIEEE([]byte(text)))
	return append(head, text...)
}

func putNo(number uint64) []byte {
	letter := sampleLetter
	letter.ID = entryID(number)
	return letter.encode()
}

func markNo(t string, number uint64) []byte { return encodeMark(t, entryID(number)) }

func deadNo(number uint64) []byte {
	dead := DeadLetter{sampleLetter, 409, "c", "r", "x"}
	dead.Letter.ID = entryID(number)
	return dead.encode()
}

func recovered(dead []byte, logs ...[]byte) *recovery {
	found := newRecovery()
	for index, data := range logs {
		found.feed(logName(uint64(index+1)), data, index == len(logs)-1)
	}
	if dead != nil {
		found.feedDead(dead)
	}
	return found
}

func liveIn(found *recovery) []uint64 {
	var ids []uint64
	for id := range found.entries {
		ids = append(ids, numberOfID(id))
	}
	slices.Sort(ids)
	return ids
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestAFrameIsLengthChecksumAndJSON(t *testing.T) {
	if sum := crc32.ChecksumIEEE([]byte("123456789")); sum != 0xcbf43926 {
		t.Errorf("the CRC-32 of the format: %08x", sum)
	}
	got := encodeMark("ack", entryID(1), fact{"status", "200"})
	if want := framed(`{"t":"ack","id":"0000000000000001","status":"200"}`); !bytes.Equal(got, want) {
		t.Errorf("%q", got)
	}
	want := framed(`{"t":"put","id":"0000000000000001","pcs_id":"` + sampleLetter.PcsID + `","key":"` +
		sampleLetter.Key + `","kid":"k1","tenant":"acme","at":1767225600000,"body":"{\"a\":\"\\u0000 ` +
		"\u00e9 \u2028" + `\"}"}`)
	if got := sampleLetter.encode(); !bytes.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func randomText(random *rand.Rand, length int) string {
	var text strings.Builder
	for range random.IntN(length + 1) {
		character := rune(random.IntN(0x250))
		if random.IntN(4) == 0 {
			character = rune(random.IntN(utf8.MaxRune + 1))
		}
		text.WriteRune(character) // a surrogate becomes U+FFFD
	}
	return text.String()
}

func TestLettersAndDeadLettersComeBackWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		letter := Letter{
			ID: entryID(random.Uint64()), PcsID: randomText(random, 64), Key: randomText(random, 64),
			Kid: randomText(random, 9), Tenant: randomText(random, 9), AtMs: random.Int64N(1 << 53),
			Body: []byte(randomText(random, 300)), From: []string{"", entryID(9)}[random.IntN(2)],
		}
		found, ok := readFrame(letter.encode(), 0)
		if !ok {
			t.Fatalf("%+v: not readable", letter)
		}
		if again, _ := letterOf(&found.text); !reflect.DeepEqual(again, letter) {
			t.Fatalf("%+v came back as %+v", letter, again)
		}
		dead := DeadLetter{
			letter, []int{0, 409}[random.IntN(2)], "c", randomText(random, 50), randomText(random, 50),
		}
		found, ok = readFrame(dead.encode(), 0)
		if !ok {
			t.Fatalf("%+v: not readable", dead)
		}
		if again, _ := deadLetterOf(&found.text); !reflect.DeepEqual(again, dead) {
			t.Fatalf("%+v came back as %+v", dead, again)
		}
	}
}

func TestAnUnknownFrameIsDamage(t *testing.T) {
	put := string(sampleLetter.encode()[frameHeadBytes:])
	id := `"id":"0000000000000001"`
	for _, text := range []string{
		``, `[]`, `"put"`, `{}`, `{"t":"put"}`, `{"t":"other",` + id + `}`, `{"t":"ack"}`,
		`{"t":"ack","id":"1"}`, `{"t":"ack","id":"000000000000000G"}`, `{"t":"ack","id":1}`,
		`{` + id + `,"t":"ack"}`, ` {"t":"ack",` + id + `}`, `{ "t":"ack",` + id + `}`,
		`{"t":"ack",` + id + `,"x":1,"x":2}`, `{"t":"ack",` + id, `{"t":"ack",` + id + `}}`,
		"{\"t\":\"ack\"," + id + ",\"x\":\"\xff\"}", `{"t":"ack",` + id + `,"x":"\ud800"}`,
		strings.Replace(put, `"body":"`, `"body":1,"x":"`, 1),
		strings.Replace(put, `"at":1767225600000`, `"at":"1"`, 1),
		strings.Replace(put, `"at":1767225600000`, `"at":1.0`, 1),
		strings.Replace(put, `"at":1767225600000`, `"at":true`, 1),
		strings.Replace(put, `,"at":1767225600000`, ``, 1),
		strings.Replace(put, `"kid":"k1"`, `"kid":7`, 1),
		strings.Replace(put, `"kid":"k1"`, `"kid":null`, 1),
		strings.Replace(put, `"key"`, `"yek"`, 1),
		`{"t":"ack",` + id + `,"x":"` + strings.Repeat("y", maxFrameBytes) + `"}`,
	} {
		if found, ok := readFrame(framed(text), 0); ok {
			t.Errorf("%.80s: read as %+v", text, found)
		}
	}
	if _, gaps := scanFrames(make([]byte, 4096)); !slices.Equal(gaps, []gap{{0, 4096}}) {
		t.Errorf("zeros are frames: %v", gaps)
	}
}

func TestADeadFrameWithoutItsMembersIsNoDeadLetter(t *testing.T) {
	whole := string(deadNo(1)[frameHeadBytes:])
	for _, text := range []string{
		`{"t":"dead","id":"0000000000000001"}`,
		`{"t":"dead","id":"0000000000000001","put":{"t":"ack","id":"0000000000000001"}}`,
		strings.Replace(whole, `"put":{"t":"put"`, `"put":{"t":"ack"`, 1),
		strings.Replace(whole, `"code":"c"`, `"code":1`, 1),
		strings.Replace(whole, `"status":"409"`, `"status":"4x9"`, 1),
		strings.Replace(whole, `"status":"409"`, `"status":"+49"`, 1),
		strings.Replace(whole, `"status":"409"`, `"status":"0409"`, 1),
		strings.Replace(whole, `"status":"409"`, `"status":409`, 1),
	} {
		found := recovered(join(framed(text), deadNo(3)))
		if _, is := found.dead[entryID(3)]; len(found.dead) != 1 || !is || found.unreadable != 1 {
			t.Errorf("%s: %+v", text, found)
		}
	}
}

func TestWhatWasPutIsLiveUntilItIsAcknowledgedDeadOrReleased(t *testing.T) {
	found := recovered(nil, join(
		putNo(1), putNo(2), putNo(3), putNo(4), putNo(5), putNo(6), putNo(7),
		markNo("ack", 1), markNo("dead", 2), markNo("release", 3), markNo("sent", 4), markNo("hold", 5)))
	if got := liveIn(found); !slices.Equal(got, []uint64{4, 5, 6, 7}) || found.nextID != 8 {
		t.Errorf("live %v, next %d", got, found.nextID)
	}
	if len(found.cuts) > 0 || len(found.corrupt) > 0 || found.unreadable > 0 {
		t.Errorf("damage: %+v", found)
	}
	found = recovered(nil, join(putNo(1), putNo(2)), markNo("ack", 1))
	if got := liveIn(found); !slices.Equal(got, []uint64{2}) {
		t.Errorf("a mark in a later file is ignored: %v", got)
	}
	moved := recovered(nil, putNo(1), join(putNo(2), putNo(1))).entries[entryID(1)]
	if moved.file != logName(2) || moved.offset != len(putNo(2)) {
		t.Errorf("the place of an entry is that of its last put: %+v", moved)
	}
}

func TestATornTailIsCutAtEveryByteOfTheLastFrame(t *testing.T) {
	whole, last := join(putNo(1), putNo(2)), putNo(3)
	for length := range last {
		found := recovered(nil, join(whole, last[:length]))
		if got := liveIn(found); !slices.Equal(got, []uint64{1, 2}) || len(found.corrupt) > 0 {
			t.Fatalf("at %d: %v %v", length, got, found.corrupt)
		}
		_, cut := found.cuts[logName(1)]
		if cut != (length > 0) || found.sizes[logName(1)] != len(whole) {
			t.Fatalf("at %d: cuts %v, sizes %v", length, found.cuts, found.sizes)
		}
	}
	older := recovered(nil, join(putNo(1), putNo(2)[:40]), putNo(3))
	if !slices.Equal(liveIn(older), []uint64{1, 3}) ||
		!slices.Equal(older.corrupt, []string{logName(1)}) {
		t.Errorf("a torn tail in an older file: %+v", older)
	}
}

func TestOneWrongByteCostsAtMostTheFrameItIsIn(t *testing.T) {
	size := len(putNo(1))
	for place := range 5 * size {
		data := join(putNo(1), putNo(2), putNo(3), putNo(4), putNo(5))
		data[place] ^= byte(1 + place%255)
		hit := uint64(place/size + 1)
		want := slices.DeleteFunc([]uint64{1, 2, 3, 4, 5}, func(id uint64) bool { return id == hit })
		found := recovered(nil, data)
		if !slices.Equal(liveIn(found), want) {
			t.Fatalf("byte %d: %v", place, liveIn(found))
		}
		// Damage in the last frame cannot be told from a tail that was never finished.
		if (len(found.cuts) > 0) != (hit == 5) || (len(found.corrupt) > 0) != (hit != 5) {
			t.Fatalf("byte %d: cuts %v, corrupt %v", place, found.cuts, found.corrupt)
		}
	}
}

func TestABodyThatLooksLikeFramesHidesNone(t *testing.T) {
	outer := sampleLetter
	outer.Body = []byte(strings.ToValidUTF8(string(putNo(77)), "?"))
	data := join(outer.encode(), putNo(2))
	if got := liveIn(recovered(nil, data)); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("whole: %v", got)
	}
	if got := liveIn(recovered(nil, data[1:])); !slices.Equal(got, []uint64{2}) {
		t.Errorf("cut: %v", got)
	}
}

func TestTheNextIDIsAboveEveryNameAndEveryID(t *testing.T) {
	found := newRecovery()
	found.feed(logName(40), nil, true)
	if found.nextID != 40 {
		t.Errorf("by name: %d", found.nextID)
	}
	if found.feedDead(deadNo(99)); found.nextID != 100 {
		t.Errorf("by dead letter: %d", found.nextID)
	}
	if found.feed(logName(41), markNo("ack", math.MaxUint64), true); found.nextID != math.MaxUint64 {
		t.Errorf("behind the last id: %d", found.nextID)
	}
}

func TestADeadLetterOutweighsTheLogAndAReleaseRemovesIt(t *testing.T) {
	found := recovered(deadNo(1), join(putNo(1), putNo(2)))
	if !slices.Equal(liveIn(found), []uint64{2}) || len(found.dead) != 1 {
		t.Errorf("%+v", found)
	}
	if found := recovered(join(deadNo(1), markNo("release", 1)), nil); len(found.dead) != 0 {
		t.Errorf("a released one is dead: %+v", found)
	}
	from := sampleLetter
	from.ID, from.From = entryID(2), entryID(1)
	got := recovered(deadNo(1), from.encode()).halfRequeued()
	if !slices.Equal(got, []string{entryID(1)}) {
		t.Errorf("half requeued: %v", got)
	}
	if got := recovered(deadNo(1), putNo(2)).halfRequeued(); len(got) != 0 {
		t.Errorf("half requeued: %v", got)
	}
	found = recovered(join(putNo(1), markNo("dead", 2)))
	if !slices.Equal(found.corrupt, []string{deadLogName}) || found.unreadable != 2 {
		t.Errorf("frames of another kind: %+v", found)
	}
}

func FuzzScanFrames(f *testing.F) {
	f.Add(join(putNo(1), []byte("torn"), deadNo(2), markNo("ack", 1)))
	f.Add([]byte{0, 0, 0, 40, 1, 2, 3, 4, '{', '"', 't', '"', ':', '"'})
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, gaps := scanFrames(data)
		covered, at := 0, 0
		for _, each := range frames {
			if each.offset < at {
				t.Fatalf("frames overlap at %d", each.offset)
			}
			at = each.offset + each.length
			covered += each.length
		}
		for _, each := range gaps {
			covered += each.end - each.start
		}
		if covered != len(data) {
			t.Errorf("%d of %d bytes are accounted for", covered, len(data))
		}
	})
}

// --- names, times, texts, space ------------------------------------------------------------------

func TestLogNamesOrderLikeTheirIDs(t *testing.T) {
	var names []string
	for _, number := range []uint64{0, 9, 10, 1 << 40, math.MaxUint64} {
		names = append(names, logName(number))
		if id, ok := firstIDOf(logName(number)); !ok || id != number {
			t.Errorf("%d came back as %d", number, id)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("%v", names)
	}
	for _, name := range []string{
		"outbox-1.log", logName(1) + ".corrupt", lockName, deadLogName, "x" + logName(1),
		"outbox-000000000000000A.log",
	} {
		if _, is := firstIDOf(name); is {
			t.Errorf("%s is no log", name)
		}
	}
}

func TestASignedRecordIsKeptByItsTimeToTheMillisecond(t *testing.T) {
	for sentAt, want := range map[string]int64{
		"2026-01-01T00:00:00Z":           outboxNowMs,
		"2026-01-01T00:00:00.123456789Z": outboxNowMs + 123,
		"2026-01-01T00:00:00.001Z":       outboxNowMs + 1,
		"1970-01-01T00:00:01.5Z":         1500,
	} {
		body := []byte(`{"sent_at":"` + sentAt + `"}`)
		signed := &SignedRecord{Body: body, PcsID: "p", Content: "c", Kid: "k"}
		letter, err := letterOfSigned(signed, "acme")
		want := Letter{PcsID: "p", Key: "c", Kid: "k", Tenant: "acme", AtMs: want, Body: body}
		if err != nil || !reflect.DeepEqual(letter, want) {
			t.Errorf("%s: %+v, %v", sentAt, letter, err)
		}
	}
	for _, body := range []string{`{`, `{}`, `{"sent_at":"today"}`} {
		if _, err := letterOfSigned(&SignedRecord{Body: []byte(body)}, ""); err == nil {
			t.Errorf("%s passed", body)
		}
	}
}

func entryNo(number uint64, file string, length int) *entry {
	return &entry{id: entryID(number), kid: "k1", tenant: "acme", file: file, place: place{0, length}}
}

func TestAFileGoesWhenNothingInItOrBeforeItIsLive(t *testing.T) {
	s := space{fileBytes: 1000}
	for _, name := range []string{"a", "b", "c"} {
		s.start(name, 100)
	}
	old, young := entryNo(1, "a", 50), entryNo(2, "b", 60)
	s.hold(old)
	s.hold(young)
	if s.free(young); len(s.removable()) != 0 || s.liveBytes != 50 {
		t.Errorf("%v, %d", s.removable(), s.liveBytes)
	}
	if s.free(old); !slices.Equal(s.removable(), []string{"a", "b"}) {
		t.Errorf("%v", s.removable())
	}
	if s.forget("a"); !slices.Equal(s.removable(), []string{"b"}) {
		t.Errorf("%v", s.removable())
	}
}

func TestTheOldestFileIsCarriedWhenGarbageOutweighsWhatLives(t *testing.T) {
	s := space{fileBytes: 10_000}
	s.start("a", 0)
	s.grow("a", 10_000)
	s.hold(entryNo(1, "a", 1000))
	if name, is := s.toCarry(); is || !s.isFull("a") {
		t.Errorf("%s; full: %v", name, s.isFull("a"))
	}
	s.start("b", 12_000)
	if name, is := s.toCarry(); is {
		t.Errorf("%s is carried too early", name)
	}
	s.grow("b", 1)
	if name, is := s.toCarry(); !is || name != "a" {
		t.Errorf("%s, %v", name, is)
	}
}

// --- vectors -------------------------------------------------------------------------------------

type outboxVectors struct {
	Op    string
	Cases []struct {
		ID   string
		Args struct {
			Bytes string
			Files map[string]string
		}
		Expect struct {
			Value      string
			Entries    []map[string]string
			Dead       []string
			Corrupt    []string
			Cuts       [][2]string
			Unreadable string
			NextID     string `json:"next_id"`
		}
	}
}

func readOutboxVectors(t *testing.T, name string) outboxVectors {
	t.Helper()
	text, err := os.ReadFile("../golden/vectors/outbox/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var vectors outboxVectors
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.Cases) == 0 {
		t.Fatal("no cases")
	}
	return vectors
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestChecksumVectors(t *testing.T) {
	for _, each := range readOutboxVectors(t, "crc32.json").Cases {
		sum := crc32.ChecksumIEEE(unhex(t, each.Args.Bytes))
		if got := fmt.Sprintf("%08x", sum); got != each.Expect.Value {
			t.Errorf("%s: %s", each.ID, got)
		}
	}
}

func TestRecoveryVectors(t *testing.T) {
	vectors := readOutboxVectors(t, "recover.json")
	for _, each := range vectors.Cases {
		files := map[string][]byte{}
		for name, text := range each.Args.Files {
			files[name] = unhex(t, text)
		}
		found := RecoverFiles(files)
		var entries []map[string]string
		for _, letter := range found.Entries {
			entry := membersOfLetter(letter)
			if at, held := found.Held[letter.ID]; held {
				entry["hold"] = at.String()
			}
			entries = append(entries, entry)
		}
		var cuts [][2]string
		for _, name := range slices.Sorted(maps.Keys(found.Cuts)) {
			cuts = append(cuts, [2]string{name, strconv.Itoa(found.Cuts[name])})
		}
		e := each.Expect
		want := fmt.Sprintln(e.Entries, e.Dead, e.Corrupt, e.Cuts, e.Unreadable, e.NextID)
		got := fmt.Sprintln(
			entries, found.Dead, found.Corrupt, cuts, found.Unreadable, found.NextID)
		if got != want {
			t.Errorf("%s: got %s, want %s", each.ID, got, want)
		}
	}
	t.Logf("%d cases", len(vectors.Cases))
}

func membersOfLetter(l Letter) map[string]string {
	members := map[string]string{
		"id": l.ID, "pcs_id": l.PcsID, "key": l.Key, "at": strconv.FormatInt(l.AtMs, 10),
		"body": hex.EncodeToString(l.Body), "kid": l.Kid, "tenant": l.Tenant, "from": l.From,
	}
	maps.DeleteFunc(members, func(name, text string) bool { return text == "" && name != "body" })
	return members
}
