package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	fractal "fractal-lba.example/sdk-go"
)

func init() {
	operations["outbox.recover"] = outboxRecover
	operations["outbox.step"] = outboxStep
	operations["checksum.crc32"] = func(args members) (members, error) {
		return members{"value": fmt.Sprintf("%08x", crc32.ChecksumIEEE(args.bytes("bytes")))}, nil
	}
}

func outboxRecover(args members) (members, error) {
	given := args.under("files")
	files := map[string][]byte{}
	for name := range given {
		files[name] = given.bytes(name)
	}
	found := fractal.RecoverFiles(files)
	entries, cuts := []members{}, [][2]string{}
	for _, letter := range found.Entries {
		entry := letterAnswer(letter)
		if at, held := found.Held[letter.ID]; held {
			entry["hold"] = at.String()
		}
		entries = append(entries, entry)
	}
	for _, name := range slices.Sorted(maps.Keys(found.Cuts)) {
		cuts = append(cuts, [2]string{name, decimal(found.Cuts[name])})
	}
	return members{
		"entries": entries, "dead": orEmpty(found.Dead), "corrupt": orEmpty(found.Corrupt),
		"cuts": cuts, "unreadable": decimal(found.Unreadable), "next_id": found.NextID,
	}, nil
}

func letterAnswer(letter fractal.Letter) members {
	answer := members{
		"id": letter.ID, "pcs_id": letter.PcsID, "key": letter.Key, "at": decimal(letter.AtMs),
		"body": hex.EncodeToString(letter.Body),
	}
	for name, text := range map[string]string{
		"kid": letter.Kid, "tenant": letter.Tenant, "from": letter.From,
	} {
		if text != "" {
			answer[name] = text
		}
	}
	return answer
}

func orEmpty(texts []string) []string { return append([]string{}, texts...) }

func outboxStep(args members) (members, error) {
	schedule := fractal.NewOutboxSchedule(int(args.number("width_max")))
	level := cmp.Or(args.text("durability"), fractal.Durable)
	steps := []members{}
	for _, event := range args.list("events") {
		step := outboxEvent(schedule, event, level)
		if args.has("durability") {
			step["held"] = heldAnswer(schedule)
			for _, name := range []string{"released", "again"} {
				ids, _ := step[name].([]string)
				step[name] = slices.Sorted(slices.Values(orEmpty(ids)))
				if len(ids) == 0 {
					step[name] = []string{}
				}
			}
		} else {
			delete(step, "released")
			delete(step, "again")
		}
		blocked := [][2]string{}
		for _, group := range schedule.Blocked() {
			blocked = append(blocked, [2]string{group.What, group.Name})
		}
		slices.SortFunc(blocked, func(a, b [2]string) int {
			return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
		})
		step["in_flight"], step["blocked"] = decimal(schedule.InFlight()), blocked
		steps = append(steps, step)
	}
	return members{"steps": steps}, nil
}

// heldAnswer writes what is held, and where.
func heldAnswer(schedule *fractal.OutboxSchedule) [][2]string {
	held := [][2]string{}
	for id, position := range schedule.Held() {
		held = append(held, [2]string{id, position.String()})
	}
	slices.SortFunc(held, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	return held
}

func outboxEvent(schedule *fractal.OutboxSchedule, event members, level string) members {
	id := event.text("id")
	switch event.text("event") {
	case "put":
		kid, tenant := event.text("kid"), event.text("tenant")
		length := int(event.number("length"))
		if !schedule.PutHeld(id, kid, tenant, length, event.text("hold")) {
			schedule.Put(id, kid, tenant, length, event.flag("in_flight"))
		}
	case "heard":
		released, again := schedule.Hear(event.text("value"))
		return members{"released": released, "again": again}
	case "status":
		released, again := schedule.HearStatus(event.bytes("body"))
		return members{"released": released, "again": again}
	case "take":
		limit, bytesMax := int(event.number("limit")), int(event.number("bytes_max"))
		return members{"taken": orEmpty(schedule.Take(event.number("now_ms"), limit, bytesMax))}
	case "answer":
		released, again := schedule.Hear(event.text("replicated"))
		verdict := verdictOf(event, level)
		kind := schedule.Settle(id, verdict, event.number("now_ms"), event.double("u"))
		return members{"verdict": string(kind), "released": released, "again": again}
	case "hurry":
		schedule.Hurry()
	}
	return members{}
}

func verdictOf(event members, level string) fractal.Verdict {
	status, retryAfterMs, code := 0, int64(0), "any"
	if event.has("status") {
		status = int(event.number("status"))
	}
	if event.has("retry_after_ms") {
		retryAfterMs = event.number("retry_after_ms")
	}
	if event.flag("cancelled") {
		code = "cancelled"
	}
	if status == 200 || status == 202 {
		submitted := &fractal.Submitted{Level: cmp.Or(event.text("level"), fractal.Durable)}
		submitted.Raw.Status = status
		submitted.Position = positionOf(event, "position")
		submitted.Replicated = positionOf(event, "replicated")
		return fractal.JudgeRecorded(level, submitted)
	}
	return fractal.JudgeDelivery(status, code, "", nil, retryAfterMs)
}

func positionOf(event members, name string) *fractal.Position {
	if !event.has(name) {
		return nil
	}
	position := must(fractal.ParsePosition(event.text(name)))
	return &position
}
