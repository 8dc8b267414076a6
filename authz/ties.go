package authz

import (
	"fmt"

	"github.com/caddy-oci/oci-registry/authz/glob"
)

// maxTies is how many ties are told of at once.
const maxTies = 20

// checkTies refuses two globs of one length that match one name, unless a longer
// one takes it from both.
func (f *findings) checkTies(c *Config) {
	ties := 0
	for t := range glob.NewSet(glob.Repositories, c.globs()).Ties() {
		f.refuse(fmt.Sprintf("patterns %s%s and %s%s", t.A, c.writtenAt(t.A.String()), t.B, c.writtenAt(t.B.String())),
			"change one of them, or write a longer one for the names that both match",
			"they're equally long and both match %q, so neither can count alone", t.Name)
		if ties++; ties == maxTies {
			return
		}
	}
}

// globs returns the globs of the rules, each once.
func (c *Config) globs() []*glob.Glob {
	var all []*glob.Glob
	seen := map[string]bool{}
	for _, r := range c.Rules {
		if !seen[r.Repositories] {
			seen[r.Repositories] = true
			all = append(all, parseGlobs(r.Repositories)...)
		}
	}
	return all
}

// writtenAt says where the first rule for a pattern is written; nothing if nobody knows.
func (c *Config) writtenAt(pattern string) string {
	for _, r := range c.Rules {
		if r.Repositories == pattern && r.Written != "" {
			return " at " + r.Written
		}
	}
	return ""
}
