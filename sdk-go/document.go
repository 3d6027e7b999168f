package fractal

// Document is one JSON text that was read strictly (spec/canonical.md 3.9): members in the order
// of the text, numbers as they are written. It never changes.
type Document struct{ root value }

// Parse reads the JSON text of one record: one object of at most MaxRecordBytes. Its codes are
// payload_too_large, json_malformed, json_limit, member_duplicate and string_surrogate.
func Parse(data []byte) (*Document, error) {
	document, err := parseObject(data, MaxRecordBytes)
	if err != nil {
		return nil, err
	}
	return document, nil
}

// ParseValue reads a JSON text of any type and of at most maxBytes under the rules of Parse.
func ParseValue(data []byte, maxBytes int) (*Document, error) {
	root, err := scan(data, maxBytes)
	if err != nil {
		return nil, err
	}
	return &Document{root}, nil
}

func parseObject(data []byte, maxBytes int) (*Document, *Error) {
	root, err := scan(data, maxBytes)
	if err != nil {
		return nil, err
	}
	if root.kind != objectKind {
		return nil, newError("json_malformed", "expected one JSON object")
	}
	return &Document{root}, nil
}

// Has says whether the document is an object with this member.
func (d *Document) Has(name string) bool { return d.root.find(name) != nil }

// Names lists the members of an object in the order of the text.
func (d *Document) Names() []string {
	names := make([]string, len(d.root.in))
	for index := range d.root.in {
		names[index] = d.root.in[index].name
	}
	return names
}

// Text gives a member that is a string.
func (d *Document) Text(name string) (text string, ok bool) {
	if found := d.root.find(name); found != nil && found.kind == stringKind {
		return found.text, true
	}
	return "", false
}

// Integer gives a member that is a lexical integer within +-(2^53 - 1).
func (d *Document) Integer(name string) (n int64, ok bool) {
	if found := d.root.find(name); found != nil {
		return found.integer()
	}
	return 0, false
}

// Number gives a member that is a number; one beyond every double is infinite.
func (d *Document) Number(name string) (x float64, ok bool) {
	if found := d.root.find(name); found != nil && found.isNumber() {
		return found.double(), true
	}
	return 0, false
}

// Bool gives a member that is true or false.
func (d *Document) Bool(name string) (yes, ok bool) {
	if found := d.root.find(name); found != nil {
		return found.kind == trueKind, found.kind == trueKind || found.kind == falseKind
	}
	return false, false
}

// Object gives a member that is an object.
func (d *Document) Object(name string) (object *Document, ok bool) {
	if found := d.root.find(name); found != nil && found.kind == objectKind {
		return &Document{*found}, true
	}
	return nil, false
}

// text gives a member that is a string, "" where there is none.
func (d *Document) text(name string) string {
	text, _ := d.Text(name)
	return text
}

func (v *value) isNumber() bool { return v.kind == integerKind || v.kind == doubleKind }
