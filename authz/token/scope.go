package token

import (
	"slices"
	"strings"

	"github.com/caddy-oci/oci-registry/oci"
)

// Scope is what a client asks a token for: actions on a resource, as in
// "repository:team/app:pull,push" (distribution, "Token Scope Documentation").
type Scope struct {
	Type    string // "repository", "registry"
	Class   string // what follows the type in parentheses, like "plugin"; mostly empty
	Name    string
	Actions []string // may be empty
}

const (
	maxScopes  = 100 // in one request
	maxActions = 16  // in one scope
)

// String returns the scope as a client sends it.
func (s Scope) String() string {
	class := ""
	if s.Class != "" {
		class = "(" + s.Class + ")"
	}
	return s.Type + class + ":" + s.Name + ":" + strings.Join(s.Actions, ",")
}

// ParseScopes returns the scopes in parameters, each of which may have several with
// spaces between them. The name may have a colon, of a host's port. What is no scope is
// oci.Unsupported with status 400; one of a type that is not known is granted nothing.
func ParseScopes(parameters []string) ([]Scope, error) {
	var all []Scope
	for _, p := range parameters {
		for text := range strings.FieldsSeq(p) {
			s, ok := parseScope(text)
			if !ok {
				return nil, badRequestf("scope %q: want TYPE:NAME:ACTION,ACTION", text)
			}
			if len(all) == maxScopes {
				return nil, badRequestf("more than %d scopes", maxScopes)
			}
			all = append(all, s)
		}
	}
	return all, nil
}

func parseScope(text string) (Scope, bool) {
	first, last := strings.IndexByte(text, ':'), strings.LastIndexByte(text, ':')
	if first <= 0 || last <= first+1 {
		return Scope{}, false
	}
	s := Scope{Type: text[:first], Name: text[first+1 : last]}
	if kind, class, ok := strings.Cut(s.Type, "("); ok {
		if s.Type, s.Class, ok = kind, strings.TrimSuffix(class, ")"), strings.HasSuffix(class, ")"); !ok || s.Class == "" {
			return Scope{}, false
		}
	}
	for action := range strings.SplitSeq(text[last+1:], ",") {
		if action != "" && !slices.Contains(s.Actions, action) {
			s.Actions = append(s.Actions, action)
		}
	}
	return s, isWord(s.Type) && (s.Class == "" || isWord(s.Class)) && len(s.Actions) <= maxActions
}

// isWord reports whether s is of lower-case letters and digits, as types and classes are.
func isWord(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// repository returns the name of the repository that the scope is for.
func (s Scope) repository() (oci.Name, bool) {
	if s.Type != "repository" {
		return oci.Name{}, false
	}
	name, err := oci.ParseName(s.Name)
	return name, err == nil
}

// isCatalog reports whether it's for the list of repositories.
func (s Scope) isCatalog() bool { return s.Type == "registry" && s.Name == "catalog" }
