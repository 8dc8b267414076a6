package authz

// maxTies is how many ties are told of at once.
const maxTies = 20

// checkTies refuses two globs of one length that match one name, unless a longer
// one takes it from both.
func (f *findings) checkTies(c *Config) {
	globs := newGlobSet(c.globs())
	ties := 0
	for i, a := range globs.all {
		for _, b := range globs.all[i+1:] {
			if len(b.pattern) != len(a.pattern) {
				break
			}
			name := globs.tie(a, b)
			if name == "" {
				continue
			}
			f.refuse("patterns "+a.pattern+" and "+b.pattern,
				"change one of them, or write a longer one for the names that both match",
				"they're equally long and both match %q, so neither can count alone", name)
			if ties++; ties == maxTies {
				return
			}
		}
	}
}

// globs returns the globs of the rules, each once.
func (c *Config) globs() []*glob {
	var all []*glob
	seen := map[string]bool{}
	for _, r := range c.Rules {
		if !seen[r.Repositories] {
			seen[r.Repositories] = true
			all = append(all, parseGlobs(r.Repositories)...)
		}
	}
	return all
}
