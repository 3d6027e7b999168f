package fractal

// This file reads how far a region is replicated: the watermark of an answer, and the status of a
// region (spec/formats.md 12.14 to 12.17). Bytes in, values out, no socket. What cannot be read
// says nothing, and is no error: the answer that it came with stands on its own.

const statusPath = "/v1/region/status"

// streamStatus is one stream: its watermark, and the last seq that stands of each earlier
// region_epoch.
type streamStatus struct {
	watermark Position
	closed    map[uint64]uint64
}

// regionStatus is what a region says of the streams that it writes.
type regionStatus []streamStatus

// RegionStatusRequest builds `GET /v1/region/status`, which needs the tenant's read token.
func RegionStatusRequest(facts RequestFacts) (Request, error) {
	facts.IdempotencyKey, facts.MinAck = "", ""
	return facts.request("GET", statusPath, nil)
}

// watermarkOf reads PCS-Replicated of any answer, if it has one that is a position.
func watermarkOf(fields [][2]string) (Position, bool) {
	text, given := joinHeaders(fields)["pcs-replicated"]
	if !given {
		return Position{}, false
	}
	return parsePosition(text)
}

// readRegionStatus reads the answer to a status request; members that it does not know are
// ignored.
func readRegionStatus(body []byte) (regionStatus, bool) {
	document, fault := parseObject(body, len(body))
	if fault != nil {
		return nil, false
	}
	region, streams := document.text("region"), document.root.find("streams")
	if !isRegion(region) || streams == nil || streams.kind != arrayKind {
		return nil, false
	}
	found := regionStatus{}
	for index := range streams.in {
		stream, ok := streamStatusOf(region, &streams.in[index].value)
		if !ok {
			return nil, false
		}
		found = append(found, stream)
	}
	return found, true
}

func streamStatusOf(region string, v *value) (stream streamStatus, ok bool) {
	closed := v.find("closed")
	placement, named := textOf(v, "placement")
	if v.kind != objectKind || !named || !isPlacement(placement) ||
		closed == nil || closed.kind != arrayKind {
		return stream, false
	}
	regionEpoch, hasEpoch := countOf(v, "region_epoch")
	replicated, hasReplicated := countOf(v, "replicated")
	_, hasDurable := countOf(v, "durable")
	stream.watermark = Position{region, placement, regionEpoch, replicated}
	stream.closed = map[uint64]uint64{}
	for index := range closed.in {
		end := &closed.in[index].value
		epoch, hasEpoch := countOf(end, "region_epoch")
		seq, hasSeq := countOf(end, "seq")
		if end.kind != objectKind || !hasEpoch || !hasSeq {
			return stream, false
		}
		if lowest, again := stream.closed[epoch]; again {
			seq = min(seq, lowest)
		}
		stream.closed[epoch] = seq
	}
	return stream, hasEpoch && hasReplicated && hasDurable
}

// countOf reads a member that is an integer token from 0 to 2^53 - 1.
func countOf(v *value, name string) (uint64, bool) {
	found := v.find(name)
	if found == nil || found.kind != integerKind || found.text[0] == '-' {
		return 0, false
	}
	n, ok := found.integer()
	return uint64(n), ok
}
