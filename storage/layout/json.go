package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

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
	var desc oci.Descriptor
	if err := json.Unmarshal(raw, &desc); err != nil {
		return err
	}
	if _, err := oci.ParseDigest(desc.Digest.String()); err != nil {
		return err
	}
	m := &manifest{desc: listed(desc)}
	if old, ok := a.manifests.Get([]byte(desc.Digest)); ok {
		m = old
	}
	name := desc.Annotations[refName]
	if name == "" || m.raw == nil {
		m = &manifest{desc: m.desc, tags: m.tags, raw: raw}
		if name != "" {
			m.raw = encodeDescriptor(m.desc, "")
		}
	}
	a.manifests.Insert([]byte(desc.Digest), m)
	a.unread.Insert([]byte(desc.Digest), m.desc)
	if name != "" {
		t, _ := oci.ParseTag(name) // zero for what other tools write beside tags
		a.name(name, tagged{tag: t, digest: desc.Digest, raw: raw})
	}
	return nil
}

// name sets a name; of several descriptors with one name the last counts.
func (a *applier) name(name string, t tagged) {
	if old, ok := a.tags.Insert([]byte(name), &t); ok {
		a.count(old.digest, -1)
	}
	a.count(t.digest, +1)
}

// Encode writes index.json: names in byte order, then the manifests without a
// name in order of digest. Descriptors that haven't changed are copied as they were.
func (i *Index) Encode(w io.Writer) error {
	b := &errWriter{w: w}
	b.str("{")
	for _, key := range slices.Sorted(maps.Keys(i.head)) {
		b.bytes(appendKey(key))
		b.bytes(i.head[key])
		b.str(",")
	}
	b.str(`"manifests":[`)
	comma := ""
	for _, t := range from(i.tags.Root(), nil) {
		b.str(comma)
		b.bytes(t.raw)
		comma = ","
	}
	for _, m := range from(i.manifests.Root(), nil) {
		if m.tags == 0 {
			b.str(comma)
			b.bytes(m.raw)
			comma = ","
		}
	}
	b.str("]}")
	return b.err
}

// Bytes is the index.json as Encode writes it.
func (i *Index) Bytes() []byte {
	var b bytes.Buffer
	_ = i.Encode(&b) // a Buffer doesn't fail
	return b.Bytes()
}

// appendKey is key as a JSON object has it, with the colon.
func appendKey(key string) []byte {
	b, err := json.Marshal(key)
	if err != nil {
		panic(err) // a string
	}
	return append(b, ':')
}

// encodeDescriptor is the descriptor in index.json, with a name if there's one.
func encodeDescriptor(desc oci.Descriptor, name string) json.RawMessage {
	if name != "" {
		desc.Annotations = map[string]string{refName: name}
	}
	raw, err := json.Marshal(desc)
	if err != nil {
		panic(err) // strings, integers and a map of strings
	}
	return raw
}

// errWriter remembers the first error.
type errWriter struct {
	w   io.Writer
	err error
}

func (b *errWriter) bytes(p []byte) {
	if b.err == nil {
		_, b.err = b.w.Write(p)
	}
}

func (b *errWriter) str(s string) { b.bytes([]byte(s)) }
