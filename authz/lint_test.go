package authz_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
)

// mistake is one in a config, with what is found in it: the place, the problem and the
// fix, or parts of these.
type mistake struct {
	lines []string
	fatal bool
	found [3]string
}

// emptyPatterns are patterns that match nothing.
var emptyPatterns = []mistake{
	{[]string{"allow pull /team/** to *"}, true, [3]string{"rule 1 (allow pull /team/** to *)", "matches nothing", `write "team/**"`}},
	{[]string{"allow pull team/ to *"}, true, [3]string{"rule 1", "matches nothing", `write "team/**"`}},
	{[]string{"allow pull Team/** to *"}, true, [3]string{"rule 1", "matches nothing", `write "team/**"`}},
	{[]string{"allow pull team/../x to *"}, true, [3]string{"rule 1", "matches nothing", `no component ".."`}},
	{[]string{"allow pull ./team to *"}, true, [3]string{"rule 1", "matches nothing", `write "team"`}},
	{[]string{"allow pull team//x to *"}, true, [3]string{"rule 1", "matches nothing", `write "team/x"`}},
	{[]string{"allow pull / to *"}, true, [3]string{"rule 1", "matches nothing", `write "**" for all`}},
	{[]string{"allow pull team/app:v1 to *"}, true, [3]string{"rule 1", "matches nothing", "leave out the host's port and the tag"}},
	{[]string{"allow pull localhost:5000/** to *"}, true, [3]string{"rule 1", "matches nothing", "leave out the host's port"}},
	{[]string{"allow pull ^team/.*$ to *"}, true, [3]string{"rule 1", "matches nothing", "globs and no regular expressions"}},
	{[]string{"allow pull team/.* to *"}, true, [3]string{"rule 1", "matches nothing", "globs and no regular expressions"}},
	{[]string{"allow pull team/blobs/** to *"}, true, [3]string{"rule 1", "matches nothing", "no repository has a component blobs"}},
	{[]string{"allow pull team_/x to *"}, true, [3]string{"rule 1", "matches nothing", "a name is components"}},
	{[]string{"allow pull " + strings.Repeat("a", 256) + " to *"}, true, [3]string{"rule 1", "longer than 255", "write a shorter one"}},
	{[]string{"allow pull team/{a to *"}, true, [3]string{"rule 1", `has a "{" without`, ""}},
	{[]string{"allow pull team/[a-] to *"}, true, [3]string{"rule 1", "begins no class", ""}},
	{[]string{"allow pull a to *", "read_only /a"}, true, [3]string{"read_only /a", "matches nothing", `write "a"`}},
	{[]string{"allow pull a to *", "no_overwrite v1:2"}, true, [3]string{"no_overwrite 1 (v1:2 of **)", "matches nothing that a tag", "a tag is letters"}},
	{[]string{"allow pull a to *", "no_overwrite a/b"}, true, [3]string{"no_overwrite 1", "matches nothing that a tag", ""}},
	{[]string{"allow pull a to *", "no_overwrite " + strings.Repeat("a", 129)}, true, [3]string{"no_overwrite 1", "longer than 128", ""}},
	{[]string{"allow pull a to *", "no_overwrite_in A v*"}, true, [3]string{"no_overwrite 1 (v* of A)", "matches nothing", `write "a"`}},
}

// oddWords are words that mean nothing here.
var oddWords = []mistake{
	{[]string{"allow read a to *"}, true, [3]string{"rule 1", `no action "read"`, `write "pull"`}},
	{[]string{"allow Update a to *"}, true, [3]string{"rule 1", `no action "Update"`, `write "overwrite"`}},
	{[]string{"allow PULL a to *"}, true, [3]string{"rule 1", `no action "PULL"`, `write "pull"`}},
	{[]string{"allow fly a to *"}, true, [3]string{"rule 1", `no action "fly"`, "the actions are pull, push"}},
	{[]string{"allow a to *"}, true, [3]string{"rule 1", "allows no action", "name some"}},
	{[]string{"allow pull a to"}, true, [3]string{"rule 1", "names nobody", `"group:NAME"`}},
	{[]string{"allow pull a to group:"}, true, [3]string{"rule 1", `"group:" names nobody`, ""}},
	{[]string{"allow pull a to **"}, true, [3]string{"rule 1", `"**" names nobody`, `write "*"`}},
	{[]string{"admin pull to *"}, true, [3]string{"admin rule 1 (admin pull to *)", "can't be admins", ""}},
	{[]string{"admin pull to anonymous"}, true, [3]string{"admin rule 1", "can't be admins", ""}},
	{[]string{"admin read to root"}, true, [3]string{"admin rule 1", `no action "read"`, ""}},
	{[]string{"allow pull a to *", "group dev group:ops"}, true, [3]string{"group dev", `"group:ops" is no user`, ""}},
	{[]string{"allow pull a to *", "group dev *"}, true, [3]string{"group dev", `"*" is no user`, ""}},
	{[]string{"allow pull a to *", "no_overwrite"}, true, [3]string{"no_overwrite 1", "protects no tag", `write "*"`}},
}

// ties are patterns of one length for one name.
var ties = []mistake{
	{
		[]string{"allow pull a/* to *", "allow push */b to bob"},
		true,
		[3]string{"patterns */b and a/*", `both match "a/b"`, "write a longer one"},
	},
	{[]string{"allow pull team-?/** to *", "allow push team-1/** to bob"}, true, [3]string{"patterns", `both match "team-1"`, ""}},
	{[]string{"allow pull {a,b}/c to *", "allow push {b,c}/c to bob"}, true, [3]string{"patterns", `both match "b/c"`, ""}},
}

// oddities are what hardly is meant.
var oddities = []mistake{
	{nil, false, [3]string{"policy", "has no rules", "allow pull ** to *"}},
	{[]string{"allow pull a to group:dev"}, false, [3]string{"rule 1", `no group "dev"`, "group dev MEMBERS"}},
	{[]string{"allow pull a to group:Ops"}, false, [3]string{"rule 1", `no group "Ops"`, `write "group:ops"`}},
	{[]string{"admin pull to group:dev"}, false, [3]string{"admin rule 1", `no group "dev"`, ""}},
	{[]string{"allow pull a to alice", "group dev"}, false, [3]string{"group dev", "no members", ""}},
	{[]string{"allow pull a to alice", "group dev alice alice"}, false, [3]string{"group dev", "alice is there twice", ""}},
	{
		[]string{"allow pull team to *", "allow pull team/** to bob"},
		false,
		[3]string{"rule 1 (allow pull team to *)", "never counts: whatever team matches is matched by team/**", "longer pattern"},
	},
	{ // either is enough
		[]string{"allow pull team to *", "allow pull team/** to bob", "allow pull [s-u]eam to carol"},
		false,
		[3]string{"rule 1", "matched by [s-u]eam, which is longer", ""},
	},
	{[]string{"allow pull * to *", "allow pull ** to bob"}, false, [3]string{"rule 1", "never counts", ""}},
	{
		[]string{"allow pull ? to *", "allow pull [a-m] to bob", "allow pull [n-z0-9] to carol"},
		false,
		[3]string{"rule 1", "matched by [n-z0-9], [a-m]", ""},
	},
	{[]string{"allow pull a to alice bob", "allow pull a to alice"}, false, [3]string{"rule 2", "nothing that rule 1 (allow pull a to alice bob) doesn't", "take it out"}},
	{[]string{"allow pull a to alice", "allow pull push a to authenticated"}, false, [3]string{"rule 1", "nothing that rule 2", ""}},
	{[]string{"allow pull a to alice", "allow pull a to alice"}, false, [3]string{"rule 2", "nothing that rule 1", ""}},
	{[]string{"allow list a to alice", "allow pull a to alice"}, false, [3]string{"rule 1", "nothing that rule 2", ""}},
	{[]string{"allow pull a to anonymous"}, false, [3]string{"rule 1", "anonymous callers pull, and not everybody who has signed in", `write "*"`}},
	{[]string{"allow push a to alice"}, false, [3]string{"rule 1", "push without pull", "let it allow pull"}},
	{[]string{"allow pull ** to *", "allow push a/** to alice"}, false, [3]string{"rule 2", "push without pull", ""}},
	{[]string{"allow pull overwrite a to alice"}, false, [3]string{"rule 1", "overwrite without push", "let it allow push"}},
	{[]string{"allow pull push a/x to alice", "read_only a/**"}, false, [3]string{"rule 1", "read_only forbids them", ""}},
	{[]string{"allow pull push overwrite a to alice", "no_overwrite *"}, false, [3]string{"rule 1", "no_overwrite forbids that for every tag", ""}},
	{[]string{"allow pull push overwrite a to alice", "no_overwrite_in a [a-zA-Z]* [0-9_]*"}, false, [3]string{"rule 1", "for every tag", ""}},
	{[]string{"allow pull pull a to alice"}, false, [3]string{"rule 1", "pull is there twice", ""}},
	{[]string{"allow pull a to alice alice"}, false, [3]string{"rule 1", "alice is there twice", ""}},
	{[]string{"allow pull a to alice *"}, false, [3]string{"rule 1", "alice is included", ""}},
	{[]string{"allow pull a to authenticated alice"}, false, [3]string{"rule 1", "alice is included", ""}},
	{[]string{"allow pull a to *", "read_only b", "read_only b"}, false, [3]string{"read_only b", "twice", ""}},
	{[]string{"allow pull a to *", "no_overwrite v* v*"}, false, [3]string{"no_overwrite 1", "v* is there twice", ""}},
	{[]string{"admin_overwrites push to root"}, false, [3]string{"admin rule 1", "doesn't allow to overwrite", ""}},
}

// TestFindings has each mistake in a config of its own.
func TestFindings(t *testing.T) {
	t.Parallel()
	for _, c := range slices.Concat(emptyPatterns, oddWords, ties, oddities) {
		cfg := config(t, c.lines...)
		found := authz.Lint(cfg, authz.Known{Groups: []string{"ops"}})
		if len(found) != 1 || found[0].Fatal != c.fatal || !strings.HasPrefix(found[0].Where, c.found[0]) ||
			!strings.Contains(found[0].Problem, c.found[1]) || !strings.Contains(found[0].Fix, c.found[2]) || found[0].Fix == "" {
			t.Errorf("%s\nfound %+v\nwant %q, fatal: %t", strings.Join(c.lines, "\n"), found, c.found, c.fatal)
		}
		_, err := authz.New(cfg)
		if (err != nil) != c.fatal {
			t.Errorf("%s\nNew says %v", strings.Join(c.lines, "\n"), err)
		}
		if c.fatal && err != nil && err.Error() != found[0].Error() {
			t.Errorf("New says %v, Lint %v", err, found[0])
		}
	}
}

// TestNothingToFind: what's usual isn't warned of.
func TestNothingToFind(t *testing.T) {
	t.Parallel()
	for _, lines := range [][]string{
		{"allow pull ** to *"},
		{
			"allow pull ** to *", "allow pull push overwrite delete team-a/** to alice group:release",
			"group release carol dave", "no_overwrite v*", "admin pull push overwrite delete to root",
		},
		{"allow pull team-1/** to *", "allow pull team-2/** to *", "allow pull team-?/a to bob"},
		{"allow pull a/* to *", "allow pull */b to *", "allow pull a/b/** to *"}, // the tie is decided by the third
		{"allow pull push a to alice", "allow overwrite a to alice"},
		{"allow pull a to authenticated", "allow push a to alice"},
		{"allow pull a to alice bob", "allow push a to group:dev", "group dev alice bob"},
		{"allow pull a to anonymous", "allow pull push a to authenticated"},
		{"allow pull ** to group:ops"},
		{"allow pull ** to user:anonymous user:group:x"},
		{"allow pull index.json/** to *"}, // which is reserved only below another component
		{"allow pull push team/** to bob", "read_only team/old/**"},
		{"allow pull push overwrite a/** to bob", "no_overwrite_in a/b *", "no_overwrite v*"},
		{"admin pull to root"},
	} {
		if found := authz.Lint(config(t, lines...), authz.Known{Groups: []string{"ops"}}); len(found) > 0 {
			t.Errorf("%s\nfound %v", strings.Join(lines, "\n"), found)
		}
	}
}

func TestLintKnowsWhatItCanKnow(t *testing.T) {
	t.Parallel()
	c := config(t, "allow pull a to group:dev", "group empty")
	if found := authz.Lint(c, authz.Known{Open: true}); len(found) > 0 {
		t.Errorf("with a source of unknown groups: %v", found)
	}
	if found := authz.Lint(c, authz.Known{Groups: []string{"dev"}}); len(found) != 1 || found[0].Where != "group empty" {
		t.Errorf("with a source of known groups: %v", found)
	}
}

func TestConditionsCoverNothing(t *testing.T) {
	t.Parallel()
	c := config(t, "allow pull a to alice bob", "allow pull a to alice")
	c.Rules[0].Conditions = []authz.Condition{yes}
	if found := authz.Lint(c, authz.Known{}); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestAllThatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	_, err := authz.New(config(t, "allow read /a to *", "admin pull to *"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"no action", `write "a"`, "can't be admins"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v doesn't say %q", err, part)
		}
	}
}

// TestOrderDoesNotMatter: the same rules in another order decide and are linted alike.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	lines := []string{
		"allow pull ** to *", "allow push a/** to alice", "allow pull a/** to bob", "allow pull a/b to carol", "allow pull */c to dave",
	}
	wants := []string{"pull x", "push a/b v1", "pull a/b", "pull a/c", "push a/c v1", "pull b/c", "pull a"}
	decide := func(lines []string) (all string) {
		p := policy(t, lines...)
		for _, who := range []string{"", "alice", "bob", "carol", "dave"} {
			for _, want := range wants {
				_, err := p.Authorize(t.Context(), ask(t, user(who), want))
				all += fmt.Sprintln(who, want, err)
			}
		}
		return all
	}
	first := decide(lines)
	slices.Reverse(lines)
	if second := decide(lines); second != first {
		t.Errorf("in one order\n%s\nin the other\n%s", first, second)
	}
}

func TestManyTiesAreCutShort(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 7 { // which make 21 pairs
		lines = append(lines, fmt.Sprintf("allow pull %s*%s to *", strings.Repeat("?", i), strings.Repeat("?", 6-i)))
	}
	if found := authz.Lint(config(t, lines...), authz.Known{}); len(found) != 20 {
		t.Errorf("%d findings, want 20", len(found))
	}
}
