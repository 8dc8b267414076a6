package scrub

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// A Place is how far a round has come: it has checked the repositories up to one,
// and of that, if there's a Digest, what it holds up to this. The zero Place is
// the beginning.
type Place struct {
	Repository oci.Name
	Digest     digest.Digest

	mending bool // all were checked
}

// mendingText stands for the end of the checking; no name looks like it.
const mendingText = "*"

// String returns what ParsePlace reads.
func (p Place) String() string {
	switch {
	case p.mending:
		return mendingText
	case p.Digest == "":
		return p.Repository.String()
	}
	return p.Repository.String() + "@" + p.Digest.String()
}

// ParsePlace reads a Place.
func ParsePlace(s string) (Place, error) {
	switch s {
	case "":
		return Place{}, nil
	case mendingText:
		return Place{mending: true}, nil
	}
	name, d, inside := strings.Cut(s, "@")
	var p Place
	var err error
	if p.Repository, err = oci.ParseName(name); err == nil && inside {
		p.Digest, err = oci.ParseDigest(d)
	}
	if err != nil {
		return Place{}, fmt.Errorf("%q is no place: %w", s, err)
	}
	return p, nil
}
