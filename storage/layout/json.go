package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/oci"
)

// refName is the annotation that holds a name in index.json (image-spec,
// "Pre-Defined Annotation Keys").
const refName = ocispec.AnnotationRefName

// Marker is the content of the file oci-layout.
const Marker = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`

// Decode reads an index.json. What it doesn't know of it, in descriptors and
// around them, is kept for Encode. An empty or torn file is an error.
func Decode(data []byte) (*Index, error) {
	head := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var raws []json.RawMessage
	if list, ok := head["manifests"]; !ok {
		return nil, errors.New("index.json: no manifests")
	} else if err := json.Unmarshal(list, &raws); err != nil {
		return nil, fmt.Errorf("index.json: manifests: %w", err)
	}
	delete(head, "manifests")
	i := New()
	i.head = head
	a := begin(i)
	for n, raw := range raws {
		if err := a.decode(raw); err != nil {
			return nil, fmt.Errorf("index.json: manifest %d: %w", n, err)
		}
	}
	return a.commit(), nil
}

func (a *applier) decode(raw json.RawMessage) error {
	var d oci.Descriptor
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	if _, err := oci.ParseDigest(d.Digest.String()); err != nil {
		return err
	}
	s := sumOf(d.Digest)
	m, known := a.manifests.Get(s)
	if !known {
		m.desc = descOf(d)
	}
	own := d.Annotations[refName]
	if bytes.Equal(raw, m.appendDescriptor(nil, s, own)) {
		raw = nil
	}
	if own == "" {
		m.setRest(more{raw: raw})
	}
	a.manifests.Set(s, m)
	a.unread.Set(s, m.desc)
	if own != "" {
		a.name(name(own), taggedAs(s, raw)) // of several descriptors with one name the last counts
	}
	return nil
}

// Encode writes index.json: names in byte order, then the manifests without a
// name in order of digest. Descriptors that haven't changed are as they were.
func (i *Index) Encode(w io.Writer) error {
	e := &encoder{w: w}
	e.index(i)
	e.flush()
	return e.err
}

// Bytes is the index.json as Encode writes it.
func (i *Index) Bytes() []byte {
	const each = 256 // bytes of a descriptor, about
	e := &encoder{b: make([]byte, 0, each*(1+max(i.tags.Len(), i.manifests.Len())))}
	e.index(i)
	return e.b
}

// encoder writes an index.json by pieces, and remembers the first error.
type encoder struct {
	w     io.Writer // nil if b is to have it all
	b     []byte    // what isn't written yet
	comma bool      // whether there's something in the list
	err   error
}

func (e *encoder) index(i *Index) {
	e.b = append(e.b, '{')
	for _, key := range slices.Sorted(maps.Keys(i.head)) {
		e.b = append(appendString(e.b, key), ':')
		e.b = append(append(e.b, i.head[key]...), ',')
	}
	e.b = append(e.b, `"manifests":[`...)
	for n, t := range i.tags.All() {
		if t.raw != nil {
			e.raw(*t.raw)
		} else if m, ok := i.manifests.Get(t.sum); ok { // it's there as long as it has names
			e.descriptor(t.sum, m.desc, string(n))
		}
	}
	for s, m := range i.manifests.All() {
		if raw := m.rest().raw; m.tags == 0 && raw != nil {
			e.raw(raw)
		} else if m.tags == 0 {
			e.descriptor(s, m.desc, "")
		}
	}
	e.b = append(e.b, "]}"...)
}

func (e *encoder) raw(raw json.RawMessage) {
	e.next()
	e.b = append(e.b, raw...)
}

func (e *encoder) descriptor(s sum, d desc, name string) {
	e.next()
	e.b = d.appendDescriptor(e.b, s, name)
}

func (e *encoder) next() {
	const piece = 64 << 10
	if e.comma {
		e.b = append(e.b, ',')
	}
	if e.comma = true; e.w != nil && len(e.b) > piece {
		e.flush()
	}
}

func (e *encoder) flush() {
	if e.err == nil {
		_, e.err = e.w.Write(e.b)
	}
	e.b = e.b[:0]
}

// encodeDescriptor is a descriptor in a list of referrers.
func encodeDescriptor(d oci.Descriptor) string {
	raw, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings, integers and a map of strings
	}
	return string(raw)
}

// appendDescriptor appends the descriptor of s in index.json as json.Marshal
// writes it, with a name if there's one.
func (c desc) appendDescriptor(b []byte, s sum, name string) []byte {
	b = append(b, `{"mediaType":`...)
	b = appendString(b, c.mediaType.Value())
	b = append(b, `,"digest":`...)
	if s.plain() {
		b = append(s.appendPlain(append(b, '"')), '"')
	} else {
		b = appendString(b, string(s.digest()))
	}
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, c.size, 10)
	if name != "" {
		b = append(b, `,"annotations":{"`+refName+`":`...)
		b = appendString(b, name)
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendString appends s as json.Marshal writes it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			raw, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string
			}
			return append(b, raw...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
