package oci

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// A shape has the keys of an object that mean something, each with the shape of
// the object, or of the objects in the list, that it holds.
type shape map[string]shape

var (
	platformShape = shape{
		"architecture": nil, "os": nil, "os.version": nil, "os.features": nil, "variant": nil, "features": nil,
	}
	descriptorShape = shape{
		"mediaType": nil, "digest": nil, "size": nil, "urls": nil, "annotations": nil, "data": nil,
		"platform": platformShape, "artifactType": nil,
	}
	commonShape = shape{"mediaType": nil, "artifactType": nil, "subject": descriptorShape, "annotations": nil}

	// manifestShape is the union of what the known manifest types have, and fsLayers
	// of docker's first one, which makes another type of any of them.
	manifestShape = shape{
		"mediaType": nil, "artifactType": nil, "subject": descriptorShape, "annotations": nil,
		"schemaVersion": nil, "config": descriptorShape, "layers": descriptorShape, "blobs": descriptorShape,
		"manifests": descriptorShape, "fsLayers": nil,
	}
)

// checkKeys refuses what two readers of raw, which is valid JSON, can understand
// differently: a key that an object has twice, of which one takes the first and
// another the last; and where s has a key, one that is the same but for the
// case of its letters, which encoding/json takes for it and others don't.
func checkKeys(raw []byte, s shape) error {
	found, err := scanKeys(raw, s)
	if err != nil {
		return err
	}
	return found.respelled
}

// keyReport is what there's to say about the keys of a JSON object.
type keyReport struct {
	mediaType []byte // what the outermost object has under mediaType, spelled so; nil if nothing
	respelled error  // what's wrong with the first key that is another in other letters
}

// scanKeys is checkKeys of an object whose type isn't known yet: a key that's there twice is
// an error for all types, and one in other letters for some. It finds the type on its way.
func scanKeys(raw []byte, s shape) (keyReport, error) {
	k := keyScanner{raw: raw}
	err := k.value(s)
	return k.found, err
}

// keyScanner passes over valid JSON. It has to come through 4 MiB quickly, so it
// makes no tokens of what isn't a key.
type keyScanner struct {
	raw   []byte
	at    int
	depth int // of the objects that it is in: 1 in the outermost, if that's what raw is
	found keyReport
}

// next is what comes first behind space.
func (k *keyScanner) next() byte {
	for {
		switch c := k.raw[k.at]; c {
		case ' ', '\t', '\r', '\n':
			k.at++
		default:
			return c
		}
	}
}

func (k *keyScanner) value(s shape) error {
	switch k.next() {
	case '{':
		return k.object(s)
	case '[':
		return k.list(s)
	case '"':
		k.text()
	default: // a number or a literal
		for strings.IndexByte(",]} \t\r\n", k.raw[k.at]) < 0 {
			k.at++
		}
	}
	return nil
}

func (k *keyScanner) list(s shape) error {
	for k.at++; k.next() != ']'; {
		if err := k.value(s); err != nil {
			return err
		}
		if k.next() == ',' {
			k.at++
		}
	}
	k.at++
	return nil
}

func (k *keyScanner) object(s shape) error {
	var seen keySet
	k.depth++
	for k.at++; k.next() != '}'; {
		key := k.key()
		if !seen.add(key) {
			return Errorf(ManifestInvalid, "an object has the key %q twice", clip(string(key)))
		}
		if meant := s.meant(key); meant != "" && k.found.respelled == nil {
			k.found.respelled = Errorf(ManifestInvalid, "the key %q is %q in other letters", clip(string(key)), meant)
		}
		k.next()
		k.at++ // the colon
		k.next()
		begin := k.at
		if err := k.value(s[string(key)]); err != nil {
			return err
		}
		if k.depth == 1 && string(key) == "mediaType" {
			k.found.mediaType = k.raw[begin:k.at]
		}
		if k.next() == ',' {
			k.at++
		}
	}
	k.at++
	k.depth--
	return nil
}

// keySet is the keys of one object, which has a few, or very many.
type keySet struct {
	few  [8][]byte
	n    int
	many map[string]bool // nil as long as there's room
}

// add reports whether the key is new.
func (s *keySet) add(key []byte) bool {
	if s.many != nil {
		before := len(s.many)
		s.many[string(key)] = true
		return len(s.many) > before
	}
	for _, other := range s.few[:s.n] {
		if bytes.Equal(key, other) {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = key
		s.n++
		return true
	}
	s.many = map[string]bool{string(key): true}
	for _, other := range s.few {
		s.many[string(other)] = true
	}
	return true
}

// meant is the key of s that encoding/json takes key for though it's another
// one, or empty.
func (s shape) meant(key []byte) string {
	if _, exact := s[string(key)]; exact {
		return ""
	}
	text := string(key)
	for k := range s {
		if strings.EqualFold(k, text) {
			return k
		}
	}
	return ""
}

// key is the string that comes next, as encoding/json reads it.
func (k *keyScanner) key() []byte {
	text := k.text()
	if utf8.Valid(text) && bytes.IndexByte(text, '\\') < 0 {
		return text[1 : len(text)-1]
	}
	var s string
	_ = json.Unmarshal(text, &s) // it's valid
	return []byte(s)
}

// text passes over a string and returns it with its quotes.
func (k *keyScanner) text() []byte {
	begin := k.at
	for k.at++; k.raw[k.at] != '"'; k.at++ {
		if k.raw[k.at] == '\\' {
			k.at++
		}
	}
	k.at++
	return k.raw[begin:k.at]
}
