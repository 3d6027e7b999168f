package fractal

// This file owns how long an acknowledged entry of an outbox is held: until its place in the log is
// replicated (spec/formats.md 11.22 to 11.29). A held entry ends by a watermark of the same region,
// placement and region_epoch that reaches its seq, and by nothing else. A newer region_epoch may
// have lost what stood above its beginning, so it sends the entry again. Pure, like schedule.go.

import (
	"cmp"
	"maps"
	"slices"
)

// JudgeRecorded decides what a recorded submit means for its entry at the level of its client
// (11.24). The level is the one reached; positions are nil where the answer had none.
func JudgeRecorded(wanted string, submitted *Submitted) Verdict {
	status, position := submitted.Raw.Status, submitted.Position
	if wanted == Durable || submitted.Level == Replicated || submitted.Level == Witnessed {
		return Verdict{Kind: Acknowledge, Status: status}
	}
	if position == nil {
		return Verdict{Kind: Later, EndpointUp: true}
	}
	at := *position
	if own := submitted.Replicated; own != nil && streamOf(*own) == streamOf(at) {
		// An answer of a later epoch shows that the frame stands in it.
		at.RegionEpoch = max(at.RegionEpoch, own.RegionEpoch)
	}
	return Verdict{Kind: Hold, Status: status, Position: at}
}

// fate is what the newest watermark of a stream means for a position in it (11.26).
type fate int

const (
	fateOpen fate = iota
	fateCovered
	fatePassed
)

// stream is the log of a region for one placement.
type stream struct{ region, placement string }

func streamOf(p Position) stream { return stream{p.Region, p.Placement} }

// heard is what a watermark or a status changed: ids that are safe, or to be sent again, in order,
// and what is held elsewhere now.
type heard struct {
	released []string
	again    []string
	moved    map[string]Position
}

// heldEntries are the entries that wait for their level, and the newest watermark of each stream.
type heldEntries struct {
	positions map[string]Position
	newest    map[stream]Position
}

func newHeldEntries() *heldEntries {
	return &heldEntries{positions: map[string]Position{}, newest: map[stream]Position{}}
}

// regions names the regions in which something is held.
func (h *heldEntries) regions() map[string]bool {
	names := map[string]bool{}
	for _, position := range h.positions {
		names[position.Region] = true
	}
	return names
}

func (h *heldEntries) has(id string) bool {
	_, is := h.positions[id]
	return is
}

func (h *heldEntries) fate(at Position) fate {
	newest, known := h.newest[streamOf(at)]
	switch {
	case !known || newest.RegionEpoch < at.RegionEpoch:
		return fateOpen
	case newest.RegionEpoch > at.RegionEpoch:
		return fatePassed
	case at.Seq <= newest.Seq:
		return fateCovered
	}
	return fateOpen
}

// hearWatermark takes in how far a stream is replicated (11.25, 11.28).
func (h *heldEntries) hearWatermark(watermark Position) (changed heard) {
	known, is := h.newest[streamOf(watermark)]
	if is && cmp.Or(cmp.Compare(known.RegionEpoch, watermark.RegionEpoch),
		cmp.Compare(known.Seq, watermark.Seq)) >= 0 {
		return changed
	}
	h.newest[streamOf(watermark)] = watermark
	for id, position := range h.positions {
		switch h.fate(position) {
		case fateCovered:
			changed.released = append(changed.released, id)
		case fatePassed:
			changed.again = append(changed.again, id)
		default:
			continue
		}
		delete(h.positions, id)
	}
	slices.Sort(changed.released)
	slices.Sort(changed.again)
	return changed
}

// hearStatus lets what stands of earlier epochs stand in the present one of its stream, then hears
// the watermark, one stream after the other (11.29).
func (h *heldEntries) hearStatus(status regionStatus) heard {
	changed := heard{moved: map[string]Position{}}
	for _, each := range status {
		at := each.watermark
		if known, is := h.newest[streamOf(at)]; !is || known.RegionEpoch <= at.RegionEpoch {
			for id, position := range h.positions {
				if each.stands(position) {
					position.RegionEpoch = at.RegionEpoch
					h.positions[id], changed.moved[id] = position, position
				}
			}
		}
		found := h.hearWatermark(at)
		changed.released = append(changed.released, found.released...)
		changed.again = append(changed.again, found.again...)
	}
	return changed
}

// stands says whether the frame at a position of an earlier epoch is in the present log.
func (s *streamStatus) stands(at Position) bool {
	_, listed := s.closed[at.RegionEpoch]
	if streamOf(at) != streamOf(s.watermark) || !listed ||
		at.RegionEpoch >= s.watermark.RegionEpoch {
		return false
	}
	for epoch, seq := range s.closed {
		if epoch >= at.RegionEpoch && seq < at.Seq {
			return false
		}
	}
	return true
}

// --- for harnesses -------------------------------------------------------------------------------

// PutHeld takes an entry that was found held at a position, and says whether the text is one.
func (o *OutboxSchedule) PutHeld(id, kid, tenant string, length int, position string) bool {
	at, ok := parsePosition(position)
	if ok {
		o.entries[id] = &entry{id: id, kid: kid, tenant: tenant, place: place{length: length}}
		o.held.positions[id] = at
	}
	return ok
}

// Hear takes in the PCS-Replicated of an answer, and gives the ids that it released and those that
// are sent again.
func (o *OutboxSchedule) Hear(value string) (released, again []string) {
	watermark, ok := watermarkOf([][2]string{{"PCS-Replicated", value}})
	if !ok {
		return nil, nil
	}
	return o.take(o.held.hearWatermark(watermark))
}

// HearStatus takes in the status of a region, as Hear does.
func (o *OutboxSchedule) HearStatus(body []byte) (released, again []string) {
	status, ok := readRegionStatus(body)
	if !ok {
		return nil, nil
	}
	return o.take(o.held.hearStatus(status))
}

func (o *OutboxSchedule) take(changed heard) (released, again []string) {
	for _, id := range changed.again {
		o.s.add(o.entries[id], false)
	}
	return changed.released, changed.again
}

// Held gives the positions at which entries are held.
func (o *OutboxSchedule) Held() map[string]Position { return maps.Clone(o.held.positions) }
