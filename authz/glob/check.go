package glob

import (
	"fmt"
	"slices"
	"strings"
)

// Check returns what's wrong with a pattern for names of g, and what to write instead:
// it's malformed, or matches nothing there can be. Each is a sentence without a full
// stop. Both are empty if the pattern is fine.
func (g *Grammar) Check(pattern string) (problem, fix string) {
	parsed, err := Parse(pattern)
	if err != nil {
		return fmt.Sprintf("the pattern %q %v", pattern, err), hint(pattern, g)
	}
	word, _ := (&search{grammar: g, match: []*program{parsed.program()}}).run()
	switch {
	case word == "":
		return fmt.Sprintf("the pattern %q matches nothing that a %s can be called", pattern, g.what), hint(pattern, g)
	case len(word) > g.longest():
		return fmt.Sprintf("the pattern %q matches only names that are longer than %d characters", pattern, g.longest()), "write a shorter one"
	}
	return "", ""
}

// hint says what to write instead of a pattern.
func hint(pattern string, names *Grammar) string {
	if names == Tags {
		return `a tag is letters, digits, "_", "." and "-", and doesn't begin with "." or "-"`
	}
	if better := tidied(pattern); better != pattern && matchesSome(better) {
		return fmt.Sprintf("write %q", better)
	}
	switch {
	case strings.Trim(pattern, "/") == "":
		return `write "**" for all repositories`
	case slices.Contains(strings.Split(pattern, "/"), ".."):
		return `names have no component ".."; write the name that you mean`
	case strings.ContainsAny(pattern, ":@"):
		return "a pattern is for repositories: leave out the host's port and the tag or digest"
	case strings.ContainsAny(pattern, "^$()+|") || strings.Contains(pattern, ".*"):
		return `patterns are globs and no regular expressions: "team/**" is what begins with team/`
	case hasReserved(pattern):
		return fmt.Sprintf("no repository has a component %s below another", strings.Join(reserved[:], ", "))
	}
	return `a name is components of lower-case letters and digits, with ".", "_", "__" or "-" between them, and "/" between components`
}

// tidied returns pattern without what's often wrong about it: slashes around it,
// two in a row, components ".", upper case.
func tidied(pattern string) string {
	var components []string
	for c := range strings.SplitSeq(strings.ToLower(strings.TrimSpace(pattern)), "/") {
		if c != "" && c != "." {
			components = append(components, c)
		}
	}
	if strings.HasSuffix(pattern, "/") && len(components) > 0 && components[len(components)-1] != "**" {
		components = append(components, "**")
	}
	return strings.Join(components, "/")
}

func matchesSome(pattern string) bool {
	g, err := Parse(pattern)
	if err != nil {
		return false
	}
	word, _ := (&search{grammar: Repositories, match: []*program{g.program()}}).run()
	return word != "" && len(word) <= longestName
}

func hasReserved(pattern string) bool {
	for _, c := range strings.Split(pattern, "/")[1:] {
		for _, r := range reserved {
			if c == r {
				return true
			}
		}
	}
	return false
}
