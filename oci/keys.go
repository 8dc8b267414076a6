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
func checkKeys(raw []byte, s shape) error { return (&keyScanner{raw, 0}).value(s) }

// keyScanner passes over valid JSON. It has to come through 4 MiB quickly, so it
// makes no tokens of what isn't a key.
type keyScanner struct {
	raw []byte
	at  int
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
	seen := make(map[string]bool)
	for k.at++; k.next() != '}'; {
		key := k.key()
		if seen[key] {
			return Errorf(ManifestInvalid, "an object has the key %q twice", clip(key))
		}
		seen[key] = true
		if meant := s.meant(key); meant != "" {
			return Errorf(ManifestInvalid, "the key %q is %q in other letters", clip(key), meant)
		}
		k.next()
		k.at++ // the colon
		if err := k.value(s[key]); err != nil {
			return err
		}
		if k.next() == ',' {
			k.at++
		}
	}
	k.at++
	return nil
}

// meant is the key of s that encoding/json takes key for though it's another
// one, or empty.
func (s shape) meant(key string) string {
	if _, exact := s[key]; exact {
		return ""
	}
	for k := range s {
		if strings.EqualFold(k, key) {
			return k
		}
	}
	return ""
}

// key is the string that comes next, as encoding/json reads it.
func (k *keyScanner) key() string {
	text := k.text()
	if utf8.Valid(text) && bytes.IndexByte(text, '\\') < 0 {
		return string(text[1 : len(text)-1])
	}
	var s string
	_ = json.Unmarshal(text, &s) // it's valid
	return s
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
