package fractal

// This file owns the outbox's format, one for all SDKs (spec/formats.md 11). A frame is
//
//	u32be length | u32be CRC-32 (IEEE) of the JSON | JSON {"t": type, "id": 16 hex digits, ...}
//
// with the types `put` (the frozen body), `sent`, `ack`, `hold` (acknowledged, and held until its
// position is replicated), `dead` and `release`. This package reads `sent` and never writes it:
// that an attempt began changes nothing. Files `outbox-<16 hex>.log` are named by the first id they
// may hold, so ids never repeat while a file remains.
//
// The invariant: a `put` that is on disk without an `ack`, `dead` or `release` behind it is sent
// again, with those bytes. Nothing here touches a file, a clock or a socket.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

const (
	// outboxFileBytes is the size at which a log file gets a successor before the next `put`.
	outboxFileBytes = 8 << 20

	// maxFrameBytes is the longest JSON of one frame; a longer length is damage, not a frame.
	maxFrameBytes = 1 << 20

	frameHeadBytes = 8

	deadLogName = "dead.log"
)

// frameMark begins the JSON of every frame, so that the next frame behind damage can be found.
var frameMark = []byte(`{"t":"`)

// Letter is one signed record as an outbox keeps it: the frozen body and what a request needs
// beside it. Kid, Tenant and From (the dead letter it was requeued from) are "" where unset.
type Letter struct {
	ID     string
	PcsID  string
	Key    string // the idempotency key
	Kid    string
	Tenant string
	AtMs   int64 // sent_at in Unix milliseconds
	Body   []byte
	From   string
}

// DeadLetter is one entry that will not be sent again, with the answer that ended it. Status is 0
// if no answer did, and the letter grew too old.
type DeadLetter struct {
	Letter   Letter
	Status   int
	Code     string
	Reason   string
	Response string
}

// ID names the entry, for Outbox.Requeue and Outbox.Purge.
func (d DeadLetter) ID() string { return d.Letter.ID }

// --- writing -----------------------------------------------------------------------------------

// fact is one member of a frame that is a text.
type fact struct{ name, text string }

// encodeMark writes a frame that says what became of an entry.
func encodeMark(t, id string, facts ...fact) []byte {
	text := openFrame(t, id)
	for _, each := range facts {
		text = appendMember(text, each.name, each.text)
	}
	return sealFrame(append(text, '}'))
}

// encode writes the `put` frame.
func (l Letter) encode() []byte { return sealFrame(l.appendTo(openFrame("put", l.ID))) }

// encode writes the frame of the dead-letter file, which holds the whole `put`.
func (d DeadLetter) encode() []byte {
	text := append(openFrame("dead", d.Letter.ID), `,"put":{"t":"put"`...)
	text = d.Letter.appendTo(appendMember(text, "id", d.Letter.ID))
	text = appendMember(text, "code", d.Code)
	text = appendMember(text, "reason", d.Reason)
	text = appendMember(text, "response", d.Response)
	if d.Status != 0 {
		text = appendMember(text, "status", fmt.Sprintf("%03d", d.Status))
	}
	return sealFrame(append(text, '}'))
}

// openFrame leaves room for the head; `t` is the first member, as recovery searches for it.
func openFrame(t, id string) []byte {
	text := append(make([]byte, frameHeadBytes, 256), `{"t":"`...)
	return appendMember(append(append(text, t...), '"'), "id", id)
}

func (l Letter) appendTo(text []byte) []byte {
	text = appendMember(text, "pcs_id", l.PcsID)
	text = appendMember(text, "key", l.Key)
	for _, each := range [...]fact{{"kid", l.Kid}, {"tenant", l.Tenant}, {"from", l.From}} {
		if each.text != "" {
			text = appendMember(text, each.name, each.text)
		}
	}
	text = strconv.AppendInt(append(text, `,"at":`...), l.AtMs, 10)
	return append(appendMember(text, "body", string(l.Body)), '}')
}

func appendMember(text []byte, name, value string) []byte {
	text = append(append(append(text, `,"`...), name...), `":`...)
	return appendString(text, value)
}

func sealFrame(frame []byte) []byte {
	text := frame[frameHeadBytes:]
	binary.BigEndian.PutUint32(frame, uint32(len(text)))
	binary.BigEndian.PutUint32(frame[4:], crc32.ChecksumIEEE(text))
	return frame
}

// --- reading -----------------------------------------------------------------------------------

// frame is one readable frame and the bytes it takes, head included.
type frame struct {
	offset int
	length int
	t      string
	id     string
	text   value
}

// readFrame reads the frame at an offset, if there is one that is whole and known (11.2, 11.3).
func readFrame(data []byte, offset int) (frame, bool) {
	if len(data)-offset < frameHeadBytes {
		return frame{}, false
	}
	length := binary.BigEndian.Uint32(data[offset:])
	text := data[offset+frameHeadBytes:]
	if length > maxFrameBytes || int(length) > len(text) {
		return frame{}, false
	}
	text = text[:length]
	if !bytes.HasPrefix(text, frameMark) ||
		crc32.ChecksumIEEE(text) != binary.BigEndian.Uint32(data[offset+4:]) {
		return frame{}, false
	}
	root, err := scan(text, maxFrameBytes)
	if err != nil || root.kind != objectKind {
		return frame{}, false
	}
	t, id, known := frameHead(&root)
	if !known {
		return frame{}, false
	}
	return frame{offset, frameHeadBytes + len(text), t, id, root}, true
}

func frameHead(v *value) (t, id string, known bool) {
	t, _ = textOf(v, "t")
	id, _ = textOf(v, "id")
	switch t {
	case "put":
		_, known = letterOf(v)
		return t, id, known
	case "sent", "ack", "hold", "dead", "release":
		return t, id, isEntryID(id)
	}
	return t, id, false
}

// letterOf reads the members of a `put`; one that is missing or of another type is damage.
func letterOf(v *value) (Letter, bool) {
	var l Letter
	ok := true
	need := func(name string) string {
		text, found := textOf(v, name)
		ok = ok && found
		return text
	}
	optional := func(name string) string {
		if v.find(name) == nil {
			return ""
		}
		return need(name)
	}
	l.ID, l.PcsID, l.Key = need("id"), need("pcs_id"), need("key")
	l.Kid, l.Tenant, l.From = optional("kid"), optional("tenant"), optional("from")
	l.Body = []byte(need("body"))
	if at := v.find("at"); at != nil {
		var isInteger bool
		l.AtMs, isInteger = at.integer()
		return l, ok && isInteger && isEntryID(l.ID)
	}
	return l, false
}

// deadLetterOf reads a frame of the dead-letter file (11.6).
func deadLetterOf(v *value) (DeadLetter, bool) {
	var d DeadLetter
	put := v.find("put")
	if put == nil || put.kind != objectKind {
		return d, false
	}
	if t, _ := textOf(put, "t"); t != "put" {
		return d, false
	}
	var okPut, okCode, okReason, okResponse, okStatus bool
	d.Letter, okPut = letterOf(put)
	d.Code, okCode = textOf(v, "code")
	d.Reason, okReason = textOf(v, "reason")
	d.Response, okResponse = textOf(v, "response")
	d.Status, okStatus = statusOf(v)
	return d, okPut && okCode && okReason && okResponse && okStatus
}

func statusOf(v *value) (int, bool) {
	if v.find("status") == nil {
		return 0, true
	}
	text, _ := textOf(v, "status")
	number, err := strconv.ParseUint(text, 10, 16)
	return int(number), err == nil && len(text) == 3
}

func textOf(v *value, name string) (string, bool) {
	if found := v.find(name); found != nil && found.kind == stringKind {
		return found.text, true
	}
	return "", false
}

// gap is a range of a file that cannot be read.
type gap struct{ start, end int }

// scanFrames reads every frame that can be read; behind damage, it looks for the next whole frame.
func scanFrames(data []byte) (frames []frame, gaps []gap) {
	for offset := 0; offset < len(data); {
		found, ok := readFrame(data, offset)
		if !ok {
			found, ok = nextFrame(data, offset+1)
			if !ok {
				return frames, append(gaps, gap{offset, len(data)})
			}
			gaps = append(gaps, gap{offset, found.offset})
		}
		frames = append(frames, found)
		offset = found.offset + found.length
	}
	return frames, gaps
}

func nextFrame(data []byte, start int) (frame, bool) {
	for at := start + frameHeadBytes; at < len(data); at++ {
		next := bytes.Index(data[at:], frameMark)
		if next < 0 {
			break
		}
		at += next
		if found, ok := readFrame(data, at-frameHeadBytes); ok {
			return found, true
		}
	}
	return frame{}, false
}

// --- ids, names and times ----------------------------------------------------------------------

func isEntryID(text string) bool {
	return len(text) == 16 && strings.Trim(text, "0123456789abcdef") == ""
}

func entryID(number uint64) string { return fmt.Sprintf("%016x", number) }

func numberOfID(id string) uint64 {
	number, _ := strconv.ParseUint(id, 16, 64) // isEntryID has seen it
	return number
}

func logName(firstID uint64) string { return "outbox-" + entryID(firstID) + ".log" }

// firstIDOf reads the first id from the name of a log file, and says whether it is one.
func firstIDOf(name string) (uint64, bool) {
	id, hasHead := strings.CutPrefix(name, "outbox-")
	id, hasTail := strings.CutSuffix(id, ".log")
	if !hasHead || !hasTail || !isEntryID(id) {
		return 0, false
	}
	return numberOfID(id), true
}

// letterOfSigned gives a signed record the shape in which it is kept; the tenant is the one under
// which it is sent.
func letterOfSigned(signed *SignedRecord, tenant string) (Letter, error) {
	document, err := Parse(signed.Body)
	if err != nil {
		return Letter{}, err
	}
	at, problem := time.Parse(time.RFC3339Nano, document.text("sent_at"))
	if problem != nil {
		return Letter{}, newError("member_type", "sent_at: expected a time").at("/sent_at")
	}
	return Letter{
		PcsID: signed.PcsID, Key: signed.Content, Kid: signed.Kid, Tenant: tenant,
		AtMs: at.UnixMilli(), Body: signed.Body,
	}, nil
}
