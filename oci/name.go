// Package oci holds the vocabulary that every other package shares: names,
// tags, references, digests, descriptors, manifests, and the errors of the
// distribution spec. It knows nothing of storage or of HTTP handlers.
package oci

import (
	"regexp"
	"strings"
)

// maxNameLength is the longest repository name accepted, in bytes. Many clients
// stop at 255 for host and name together (distribution-spec, "Pulling manifests").
const maxNameLength = 255

var nameRE = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// Name is a repository name. Only ParseName makes one, so a Name in hand is
// valid and safe to use as a relative path. The zero Name isn't valid. Names
// are comparable.
type Name struct{ s string }

// ParseName returns the repository name s, or NameInvalid.
//
// Beside the spec's grammar it refuses the components blobs, index.json and
// oci-layout below another component: on disk such a repository would lie
// inside the image layout of its parent.
func ParseName(s string) (Name, error) {
	if len(s) > maxNameLength {
		return Name{}, Errorf(NameInvalid, "repository name of %d bytes is longer than %d", len(s), maxNameLength)
	}
	if !nameRE.MatchString(s) {
		return Name{}, Errorf(NameInvalid, "repository name %q", s)
	}
	_, below, _ := strings.Cut(s, "/")
	for c := range strings.SplitSeq(below, "/") {
		switch c {
		case "blobs", "index.json", "oci-layout":
			return Name{}, Errorf(NameInvalid, "repository name %q: the component %q is reserved", s, c)
		}
	}
	return Name{s}, nil
}

// String returns the name as it was parsed.
func (n Name) String() string { return n.s }

// IsZero reports whether n is the zero Name, which names nothing.
func (n Name) IsZero() bool { return n.s == "" }

// Compare orders names by their bytes, the order in which catalogs list them.
func (n Name) Compare(m Name) int { return strings.Compare(n.s, m.s) }
