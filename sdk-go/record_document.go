package fractal

// This file reads a record from a document: the types of its members, then the rules of
// record_check.go.

// memberRule checks one member of a document and keeps it in the record.
type memberRule struct {
	name string
	rule func(c *checking, r *Record, v *value, pointer string)
}

// requiredMembers are in the order in which a missing one is told.
var requiredMembers = []memberRule{
	{"pcs_id", textRule(func(c *checking, r *Record, text, pointer string) {
		r.PcsID = text
		c.hex(text, pointer)
	})},
	{"schema", textRule(func(c *checking, r *Record, text, pointer string) {
		r.Schema = text
		c.oneOf(text, []string{Schema}, "schema_unsupported", pointer)
	})},
	{"version", textRule(func(c *checking, r *Record, text, pointer string) {
		r.Version = text
		c.oneOf(text, []string{Version}, "schema_unsupported", pointer)
	})},
	{"shard_id", textRule(func(c *checking, r *Record, text, pointer string) {
		r.ShardID = text
		c.size(text, 1, MaxShardIDBytes, pointer)
	})},
	{"epoch", epochRule},
	{"attempt", func(c *checking, r *Record, v *value, pointer string) {
		r.Attempt = uint64(c.lexical(v, 1, maxSafeInteger, pointer))
	}},
	{"sent_at", textRule(func(c *checking, r *Record, text, _ string) {
		r.SentAt = text
		c.time(text)
	})},
	{"seed", func(c *checking, r *Record, v *value, pointer string) {
		r.Seed = uint64(c.lexical(v, 0, maxSafeInteger, pointer))
	}},
	{"scales", func(c *checking, r *Record, v *value, pointer string) {
		for index, item := range c.array(v, 2, MaxScales, pointer) {
			scale := c.lexical(&item.value, 1, MaxScale, belowIndex(pointer, index))
			r.Scales = append(r.Scales, scale)
		}
	}},
	{"N_j", countsRule},
	{"v_star", directionRule},
	{"D_hat", floatRule(dHat, func(r *Record) *float64 { return &r.DHat })},
	{"budget", floatRule(budget, func(r *Record) *float64 { return &r.Budget })},
	{"coh_star", floatRule(cohStar, func(r *Record) *float64 { return &r.CohStar })},
	{"r", floatRule(ratio, func(r *Record) *float64 { return &r.R })},
	{"regime", textRule(func(c *checking, r *Record, text, pointer string) {
		r.Regime = text
		c.oneOf(text, regimes, "member_type", pointer)
	})},
	{"merkle_root", textRule(func(c *checking, r *Record, text, pointer string) {
		r.MerkleRoot = text
		c.hex(text, pointer)
	})},
	{"ft", func(c *checking, r *Record, v *value, pointer string) {
		if v.kind == objectKind {
			c.closed(r, v, pointer, ftMembers, nil)
		} else {
			c.add("member_type", pointer, "an object")
		}
	}},
}

var ftMembers = []memberRule{
	{"outbox_seq", func(c *checking, r *Record, v *value, pointer string) {
		r.Ft.OutboxSeq = uint64(c.lexical(v, 0, maxSafeInteger, pointer))
	}},
	{"degraded", func(c *checking, r *Record, v *value, pointer string) {
		if r.Ft.Degraded = v.kind == trueKind; v.kind != trueKind && v.kind != falseKind {
			c.add("member_type", pointer, "true or false")
		}
	}},
	{"fallbacks", func(c *checking, r *Record, v *value, pointer string) {
		for index, item := range c.array(v, 0, MaxFallbacks, pointer) {
			textRule(func(c *checking, r *Record, text, pointer string) {
				r.Ft.Fallbacks = append(r.Ft.Fallbacks, text)
				c.size(text, 1, MaxFallbackBytes, pointer)
			})(c, r, &item.value, belowIndex(pointer, index))
		}
	}},
	{"clock_skew_ms", func(c *checking, r *Record, v *value, pointer string) {
		r.Ft.ClockSkewMs = c.lexical(v, -MaxClockSkewMs, MaxClockSkewMs, pointer)
	}},
}

var optionalMembers = []memberRule{
	{"sig", textRule(func(_ *checking, r *Record, text, _ string) { r.Sig = text })},
	{"sig_v", func(c *checking, r *Record, v *value, pointer string) {
		if r.SigV = 2; v.kind != integerKind || v.text != "2" {
			c.add("sig_version_unsupported", pointer, "2, or no such member")
		}
	}},
	{"alg", textRule(func(c *checking, r *Record, text, pointer string) {
		r.Alg = text
		c.oneOf(text, algorithms, "alg_mismatch", pointer)
	})},
	{"kid", textRule(func(c *checking, r *Record, text, pointer string) {
		r.Kid = text
		c.size(text, 1, MaxNameBytes, pointer)
	})},
	{"tenant_id", textRule(func(c *checking, r *Record, text, pointer string) {
		r.TenantID = text
		c.size(text, 1, MaxNameBytes, pointer)
	})},
}

// record gives a document its types. `signed` asks for the member sig.
func (d *Document) record(signed bool) (*Record, *Error) {
	var c checking
	var r Record
	c.closed(&r, &d.root, "", requiredMembers, optionalMembers)
	if signed && !d.Has("sig") {
		c.add("member_missing", "/sig", "this member")
	}
	c.versionMembers(d.Has("sig_v"), d.Has)
	if c.fault == nil {
		counted, _ := d.Object("N_j")
		r.residual(&c, counted.Names())
	}
	if c.fault != nil {
		return nil, c.fault
	}
	return &r, nil
}

func (d *Document) submittable() *Error {
	r, err := d.record(false)
	if err != nil {
		return err
	}
	return checkPcsID(r.PcsID, r.MerkleRoot, r.Epoch, r.ShardID)
}

// closed checks an object that has all of the required members and no other than the optional.
func (c *checking) closed(
	r *Record, v *value, pointer string, required, optional []memberRule,
) {
	for _, rule := range required {
		if v.find(rule.name) == nil {
			c.add("member_missing", below(pointer, rule.name), "this member")
		}
	}
	for index := range v.in {
		next := &v.in[index]
		rule := ruleOf(required, next.name)
		if rule == nil {
			rule = ruleOf(optional, next.name)
		}
		if rule == nil {
			c.add("member_unknown", below(pointer, next.name), "no such member")
		} else {
			rule.rule(c, r, &next.value, below(pointer, next.name))
		}
	}
}

func ruleOf(rules []memberRule, name string) *memberRule {
	for index := range rules {
		if rules[index].name == name {
			return &rules[index]
		}
	}
	return nil
}

func textRule(
	then func(c *checking, r *Record, text, pointer string),
) func(*checking, *Record, *value, string) {
	return func(c *checking, r *Record, v *value, pointer string) {
		if v.kind == stringKind {
			then(c, r, v.text, pointer)
		} else {
			c.add("member_type", pointer, "a string")
		}
	}
}

func floatRule(
	index int, of func(r *Record) *float64,
) func(*checking, *Record, *value, string) {
	return func(c *checking, r *Record, v *value, pointer string) {
		if x, ok := c.double(v, pointer); ok {
			*of(r) = x
			c.float(index, x)
		}
	}
}

// double evaluates a number; a token beyond every double is out of range, never infinite.
func (c *checking) double(v *value, pointer string) (x float64, ok bool) {
	if !v.isNumber() {
		c.add("member_type", pointer, "a number")
		return 0, false
	}
	x = v.double()
	if !isFinite(x) {
		c.add("number_out_of_range", pointer, "a finite number")
		return 0, false
	}
	return x, true
}

// lexical evaluates a lexical integer within its bounds (spec/formats.md 1.4).
func (c *checking) lexical(v *value, low, high int64, pointer string) int64 {
	if v.kind != integerKind {
		c.add("member_type", pointer, "a lexical integer")
		return 0
	}
	n, ok := v.integer()
	if !ok {
		c.add("number_out_of_range", pointer, "an integer within its bounds")
		return 0
	}
	c.among(n, low, high, pointer)
	return n
}

// array gives the items of an array of so many, none if it is not one.
func (c *checking) array(v *value, low, high int, pointer string) []member {
	if v.kind != arrayKind {
		c.add("member_type", pointer, "an array")
		return nil
	}
	if !c.items(len(v.in), low, high, pointer) {
		return nil
	}
	return v.in
}

func epochRule(c *checking, r *Record, v *value, pointer string) {
	if !v.isNumber() {
		c.add("member_type", pointer, "an integer")
		return
	}
	n, ok := v.integer()
	if !ok || n < 0 {
		c.add("epoch_invalid", pointer, "a lexical integer from 0 to 2^53 - 1")
	}
	r.Epoch = uint64(n)
}

func countsRule(c *checking, r *Record, v *value, pointer string) {
	if v.kind != objectKind {
		c.add("member_type", pointer, "an object")
		return
	}
	r.NJ = make(map[string]int64, len(v.in))
	for index := range v.in {
		name := v.in[index].name
		r.NJ[name] = c.lexical(&v.in[index].value, 1, maxSafeInteger, below(pointer, name))
	}
}

func directionRule(c *checking, r *Record, v *value, pointer string) {
	items := c.array(v, 1, MaxDimensions, pointer)
	r.VStar = make([]float64, len(items))
	for index := range items {
		item := &items[index].value
		if x := item.double(); item.isNumber() && isFinite(x) {
			r.VStar[index] = x
		} else {
			c.double(item, belowIndex(pointer, index))
		}
	}
}
