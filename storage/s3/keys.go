package s3

import (
	"crypto/rand"
	"strings"

	"github.com/caddy-oci/oci-registry/internal/versioned"
	"github.com/caddy-oci/oci-registry/oci"
)

// keys says where things lie below a prefix of the bucket. No key is a path
// prefix of another, since some stores keep objects in folders.
type keys struct{ prefix string }

func newKeys(prefix string) keys {
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return keys{prefix}
}

func (k keys) records() string             { return k.prefix + "repositories/" }
func (k keys) record(name oci.Name) string { return k.records() + flat.Replace(name.String()) }
func (k keys) data(id string) string       { return k.prefix + "data/" + id }
func (k keys) segments() string            { return k.prefix + "segments/" }
func (k keys) segment(name oci.Name, id string) string {
	return k.segments() + flat.Replace(name.String()) + "/" + id
}
func (k keys) sessions() string           { return k.prefix + "uploads/" }
func (k keys) session(id string) string   { return k.sessions() + id }
func (k keys) probe(id string) string     { return k.prefix + "probe/" + id }
func (k keys) condemned(id string) string { return k.prefix + "condemned/" + id[:min(1, len(id))] }
func (k keys) note(name string) string    { return k.prefix + "notes/" + name }
func (k keys) claim(name string) string   { return k.prefix + "claims/" + name }
func (k keys) pulls(id string) string     { return k.prefix + "pulls/" + id }
func (k keys) links() string              { return k.prefix + "redirects" }
func (k keys) state(key string) string    { return k.prefix + "state/" + versioned.Name(key) }
func (k keys) stateKey(at string) (key string, ok bool) {
	return versioned.Key(strings.TrimPrefix(at, k.state("")))
}

func (k keys) name(key string) (oci.Name, error) {
	return oci.ParseName(nested.Replace(strings.TrimPrefix(key, k.records())))
}

// flat makes a name one path component, in the same byte order and of the same
// length: "-", "." and "/" are neighbours, and each becomes the one before.
var (
	flat   = strings.NewReplacer("-", "!", ".", "-", "/", ".")
	nested = strings.NewReplacer("!", "-", "-", ".", ".", "/")
)

// newID returns an ID that was never used before.
func newID() string { return rand.Text() }

// idSize is how long IDs are, in bytes.
const idSize = 26
