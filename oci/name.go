// Package oci holds the vocabulary that every other package shares: names,
// tags, references, digests, descriptors, manifests, and the errors of the
// distribution spec. It knows nothing of storage or of HTTP handlers.
package oci

import "strings"

// maxNameLength is the longest repository name accepted, in bytes. Many clients
// stop at 255 for host and name together (distribution-spec, "Pulling manifests").
const maxNameLength = 255

// Name is a repository name. Only ParseName makes one, so a Name in hand is
// valid and safe to use as a relative path. The zero Name isn't valid. Names
// are comparable.
type Name struct{ s string }

// Clone is Tag.Clone for a name.
func (n Name) Clone() Name { return Name{strings.Clone(n.s)} }

// ParseName returns the repository name s, or NameInvalid.
//
// Beside the spec's grammar it refuses the components blobs, index.json and
// oci-layout below another component: on disk such a repository would lie
// inside the image layout of its parent.
func ParseName(s string) (Name, error) {
	if len(s) > maxNameLength {
		return Name{}, Errorf(NameInvalid, "repository name of %d bytes is longer than %d", len(s), maxNameLength)
	}
	for i, below := 0, false; i <= len(s); below = true {
		c, _, _ := strings.Cut(s[i:], "/")
		if !isComponent(c) {
			return Name{}, Errorf(NameInvalid, "repository name %q", s)
		}
		if below && isReserved(c) {
			return Name{}, Errorf(NameInvalid, "repository name %q: the component %q is reserved", s, c)
		}
		i += len(c) + 1
	}
	return Name{s}, nil
}

func isReserved(component string) bool {
	return component == "blobs" || component == "index.json" || component == "oci-layout"
}

// isComponent reports whether c is [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, what the
// spec has between slashes. It is asked with every request, so it's no regexp.
func isComponent(c string) bool {
	for i := 0; ; {
		start := i
		for i < len(c) && (c[i] >= 'a' && c[i] <= 'z' || c[i] >= '0' && c[i] <= '9') {
			i++
		}
		if i == start || i == len(c) {
			return i > start
		}
		i += separator(c[i:])
		if c[i-1] != '.' && c[i-1] != '_' && c[i-1] != '-' {
			return false
		}
	}
}

// separator is the length of the separator that s begins with; 1 if it begins
// with none.
func separator(s string) int {
	switch {
	case strings.HasPrefix(s, "__"):
		return 2
	case s[0] == '-':
		return len(s) - len(strings.TrimLeft(s, "-"))
	}
	return 1
}

// String returns the name as it was parsed.
func (n Name) String() string { return n.s }

// IsZero reports whether n is the zero Name, which names nothing.
func (n Name) IsZero() bool { return n.s == "" }

// Compare orders names by their bytes, the order in which catalogs list them.
func (n Name) Compare(m Name) int { return strings.Compare(n.s, m.s) }
