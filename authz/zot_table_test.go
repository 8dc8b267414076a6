package authz_test

import "github.com/caddy-oci/oci-registry/authz"

const zotDigest = "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// reads is a zot whose entries let everybody read who has signed in and is named by
// the entry: alice by the first, bob by the second.
func reads(alice, bob string) zot {
	return zot{repositories: map[string]zotEntry{
		alice: policies(users("r", "alice")),
		bob:   policies(users("r", "bob")),
	}}
}

func alice(repo string, want zotAnswer) zotAsk {
	return zotAsk{user: "alice", action: 'r', repo: repo, want: want}
}

func bob(repo string, want zotAnswer) zotAsk {
	return zotAsk{user: "bob", action: 'r', repo: repo, want: want}
}

// zotPatterns are about which entry counts.
var zotPatterns = []zotCase{
	{"the longer pattern counts", reads("**", "team/**"), bob("team/x", allowed)},
	{"the shorter pattern doesn't", reads("**", "team/**"), alice("team/x", denied)},
	{"the shorter pattern counts elsewhere", reads("**", "team/**"), alice("lib/x", allowed)},
	{"the longer pattern doesn't count elsewhere", reads("**", "team/**"), bob("lib/x", denied)},
	{"a/** matches a", reads("**", "team/**"), bob("team", allowed)},
	{"a/** matches at any depth", reads("**", "team/**"), bob("team/a/b/c", allowed)},
	{"a/** doesn't match ab", reads("**", "team/**"), bob("teams", denied)},
	{"* matches one component", reads("**", "team/*"), bob("team/x", allowed)},
	{"* doesn't match two", reads("**", "team/*"), bob("team/x/y", denied)},
	{"* doesn't match none", reads("**", "team/*"), bob("team", denied)},
	{"** matches everything", only("**", zotEntry{defaultPolicy: "r"}), alice("a/b/c/d", allowed)},
	{"* alone matches no slash", only("*", zotEntry{defaultPolicy: "r"}), alice("a/b", denied)},
	{"a name is longer than *", reads("team/*", "team/app"), bob("team/app", allowed)},
	{"a name takes it from *", reads("team/*", "team/app"), alice("team/app", denied)},
	{"a name may be shorter than **", reads("team/**", "team/a"), alice("team/a", allowed)},
	{"which then never counts", reads("team/**", "team/a"), bob("team/a", denied)},
	{"** before the end", reads("**", "**/app"), bob("x/y/app", allowed)},
	{"** before the end may be nothing", reads("**", "**/app"), bob("app", allowed)},
	{"** in the middle", reads("**", "a/**/z"), bob("a/b/c/z", allowed)},
	{"** in the middle may be nothing", reads("**", "a/**/z"), bob("a/z", allowed)},
	{"alternatives", reads("**", "{team,org}/**"), bob("org/x", allowed)},
	{"alternatives count as they're written", reads("team/app-12", "{team,org}/**"), bob("team/app-12", allowed)},
	{"classes", reads("**", "team-[0-9]/**"), bob("team-7/x", allowed)},
	{"classes don't match the rest", reads("**", "team-[0-9]/**"), bob("team-x/x", denied)},
	{"? matches one character", reads("**", "team-?/x"), bob("team-a/x", allowed)},
	{"* within a component", reads("**", "team-*/x"), bob("team-abc/x", allowed)},
	{"without a pattern nobody may", reads("a/**", "b/**"), alice("c", denied)},
	{"three that match", zot{repositories: map[string]zotEntry{
		"**": {defaultPolicy: "r"}, "a/**": {defaultPolicy: "r"}, "a/b/**": policies(users("r", "bob")),
	}}, alice("a/b/c", denied)},
}

// zotWho are about whom an entry names.
var zotWho = []zotCase{
	{"a user", only("a", policies(users("r", "alice"))), alice("a", allowed)},
	{"another user", only("a", policies(users("r", "alice"))), bob("a", denied)},
	{"names of users have a case", only("a", policies(users("r", "Alice"))), alice("a", denied)},
	{"another action", only("a", policies(users("c", "alice"))), alice("a", denied)},
	{"a second policy", only("a", policies(users("c", "alice"), users("r", "bob", "alice"))), alice("a", allowed)},
	{
		"a group of zot",
		zot{
			repositories: map[string]zotEntry{"a": policies(groups("dev"))},
			groups:       map[string][]string{"dev": {"alice"}},
		},
		alice("a", allowed),
	},
	{
		"a group of zot that one isn't in",
		zot{
			repositories: map[string]zotEntry{"a": policies(groups("dev"))},
			groups:       map[string][]string{"dev": {"alice"}},
		},
		bob("a", denied),
	},
	{
		"a group of the identity source",
		only("a", policies(groups("dev"))),
		zotAsk{user: "bob", groups: []string{"ops", "dev"}, action: 'r', repo: "a", want: allowed},
	},
	{
		"both kinds of groups are one",
		zot{
			repositories: map[string]zotEntry{"a": policies(groups("dev"))},
			groups:       map[string][]string{"dev": {"alice"}},
		},
		zotAsk{user: "bob", groups: []string{"dev"}, action: 'r', repo: "a", want: allowed},
	},
	{
		"names of groups have a case",
		only("a", policies(groups("Dev"))),
		zotAsk{user: "bob", groups: []string{"dev"}, action: 'r', repo: "a", want: denied},
	},
	{
		"a group called like a user",
		only("a", policies(users("r", "dev"))),
		zotAsk{user: "bob", groups: []string{"dev"}, action: 'r', repo: "a", want: denied},
	},
	{
		"a user called like a group",
		only("a", policies(groups("dev"))),
		zotAsk{user: "dev", action: 'r', repo: "a", want: denied},
	},
	{
		"anonymous callers are in no group",
		only("a", policies(groups("dev"))),
		zotAsk{groups: []string{"dev"}, action: 'r', repo: "a", want: unauthorized},
	},
	{"the default is for who has signed in", only("a", zotEntry{defaultPolicy: "r"}), bob("a", allowed)},
	{
		"the default is for those that policies name, too",
		only("a", zotEntry{policies: []zotPolicy{users("c", "alice")}, defaultPolicy: "r"}),
		alice("a", allowed),
	},
	{
		"the default isn't for anonymous callers",
		only("a", zotEntry{defaultPolicy: "r"}),
		zotAsk{action: 'r', repo: "a", want: unauthorized},
	},
	{"the default has its own actions", only("a", zotEntry{defaultPolicy: "c"}), bob("a", denied)},
	{
		"the default of a shorter pattern doesn't count",
		zot{repositories: map[string]zotEntry{"**": {defaultPolicy: "r"}, "a/**": {defaultPolicy: "c"}}},
		bob("a/b", denied),
	},
	{
		"anonymous callers",
		only("a", zotEntry{anonymousPolicy: "r"}),
		zotAsk{action: 'r', repo: "a", want: allowed},
	},
	{
		"who has signed in isn't anonymous any more",
		only("a", zotEntry{anonymousPolicy: "r"}),
		alice("a", denied),
	},
	{
		"anonymous callers where signing in helps",
		only("a", zotEntry{anonymousPolicy: "r", defaultPolicy: "rc"}),
		zotAsk{action: 'c', repo: "a", want: unauthorized},
	},
	{
		"anonymous callers where only some user may",
		only("a", policies(users("r", "alice"))),
		zotAsk{action: 'r', repo: "a", want: unauthorized},
	},
	{
		"anonymous callers where only an admin may",
		zot{admin: users("r", "root")},
		zotAsk{action: 'r', repo: "a", want: unauthorized},
	},
	{
		"anonymous callers where nobody may: zot says 401",
		only("a", zotEntry{anonymousPolicy: "r"}),
		zotAsk{action: 'd', repo: "a", want: denied},
	},
	{
		"the longest pattern counts for anonymous callers",
		zot{repositories: map[string]zotEntry{"**": {anonymousPolicy: "r"}, "a/**": {defaultPolicy: "r"}}},
		zotAsk{action: 'r', repo: "a/b", want: unauthorized},
	},
	{
		"a user called anonymous has signed in", only("a", zotEntry{anonymousPolicy: "r"}),
		zotAsk{user: "anonymous", action: 'r', repo: "a", want: denied},
	},
	{
		"a user called anonymous can be named", only("a", policies(users("r", "anonymous"))),
		zotAsk{user: "anonymous", action: 'r', repo: "a", want: allowed},
	},
}

func withAdmin(admin zotPolicy, e zotEntry) zot {
	z := only("a", e)
	z.admin = admin
	return z
}

func root(action rune, repo string, want zotAnswer, reason string) zotAsk {
	return zotAsk{user: "root", action: action, repo: repo, want: want, reason: reason}
}

// zotAdmins are about the adminPolicy.
var zotAdmins = []zotCase{
	{"an admin where no rule names one", withAdmin(users("r", "root"), policies(users("r", "bob"))), root('r', "a", allowed, "")},
	{"an admin where no pattern matches", withAdmin(users("r", "root"), zotEntry{}), root('r', "b/c", allowed, "")},
	{"an admin needs the action", withAdmin(users("r", "root"), zotEntry{}), root('d', "a", denied, "")},
	{"an admin may do what all may", withAdmin(users("d", "root"), zotEntry{defaultPolicy: "r"}), root('r', "a", allowed, "")},
	{"others are no admins", withAdmin(users("r", "root"), zotEntry{}), bob("a", denied)},
	{
		"a group of admins",
		withAdmin(groups("ops"), zotEntry{}),
		zotAsk{user: "bob", groups: []string{"ops"}, action: 'r', repo: "a", want: allowed},
	},
	{"a condition for admins", withAdmin(users("r", "root").when(yes), zotEntry{}), root('r', "a", allowed, "")},
	{
		"a condition for admins that isn't met",
		withAdmin(users("r", "root").when(holds(false, "not now")), zotEntry{}),
		root('r', "a", denied, "not now"),
	},
	{
		"the reason of the admin policy is the last",
		withAdmin(users("r", "root").when(holds(false, "not now")), policies(users("r", "root").when(holds(false, "not here")))),
		root('r', "a", denied, "not now"),
	},
	{
		"without a reason of its own the entry's stays",
		withAdmin(users("r", "root").when(no), policies(users("r", "root").when(holds(false, "not here")))),
		root('r', "a", denied, "not here"),
	},
	{
		"an entry's condition doesn't bind admins",
		withAdmin(users("r", "root"), policies(users("r", "root").when(no))),
		root('r', "a", allowed, ""),
	},
}

func refusedFor(reason string) zotAsk {
	a := alice("a", denied)
	a.reason = reason
	return a
}

// zotConditions are about conditions.
var zotConditions = []zotCase{
	{"a condition that's met", only("a", policies(users("r", "alice").when(yes))), alice("a", allowed)},
	{"a condition that isn't", only("a", policies(users("r", "alice").when(no))), alice("a", denied)},
	{"all of them", only("a", policies(users("r", "alice").when(yes, yes))), alice("a", allowed)},
	{"all but one", only("a", policies(users("r", "alice").when(yes, no))), alice("a", denied)},
	{
		"the reason is the message",
		only("a", policies(users("r", "alice").when(holds(false, "ask bob")))),
		refusedFor("ask bob"),
	},
	{
		"the reason is of the first that isn't met",
		only("a", policies(users("r", "alice").when(yes, holds(false, "one"), holds(false, "two")))),
		refusedFor("one"),
	},
	{
		"the reason is of the last policy",
		only("a", policies(users("r", "alice").when(holds(false, "one")), users("r", "alice").when(holds(false, "two")))),
		refusedFor("two"),
	},
	{
		"the last policy, wherever it names one: zot asks those that name users before those that name groups",
		only("a", policies(zotPolicy{groups: []string{"dev"}, actions: "r"}.when(holds(false, "one")), users("r", "alice").when(holds(false, "two")))),
		zotAsk{user: "alice", groups: []string{"dev"}, action: 'r', repo: "a", want: denied, reason: "two"},
	},
	{
		"another policy grants it",
		only("a", policies(users("r", "alice").when(no), users("r", "alice"))),
		alice("a", allowed),
	},
	{
		"another policy's condition is met",
		only("a", policies(users("r", "alice").when(yes), users("r", "alice").when(no))),
		alice("a", allowed),
	},
	{
		"the default grants it",
		only("a", zotEntry{policies: []zotPolicy{users("r", "alice").when(no)}, defaultPolicy: "r"}),
		alice("a", allowed),
	},
	{"an error grants nothing and has no reason", only("a", policies(users("r", "alice").when(broken))), alice("a", denied)},
	{
		"who isn't named gets no reason",
		only("a", policies(users("r", "bob").when(holds(false, "ask bob")))),
		alice("a", denied),
	},
	{
		"who isn't allowed the action gets no reason",
		only("a", policies(users("d", "alice").when(holds(false, "ask bob")))),
		alice("a", denied),
	},
}

func push(action rune, want zotAnswer, refs ...string) zotAsk {
	return zotAsk{user: "alice", action: action, repo: "a", refs: refs, want: want}
}

func onlyTag(want zotAnswer, refs ...string) zotAsk {
	a := push('c', want, refs...)
	if want != allowed {
		a.reason = "only v1"
	}
	return a
}

var (
	creates = only("a", policies(users("c", "alice")))
	updates = only("a", policies(users("cu", "alice")))
	v1      = only("a", policies(users("c", "alice").when(condition{
		func(c authz.Case) (bool, error) {
			_, isDigest := c.Access.Reference.Digest()
			return isDigest || c.Access.Reference.String() == "v1", nil
		}, "only v1",
	})))
)

// zotPushes are about what a push needs.
var zotPushes = []zotCase{
	{"a new tag needs create", creates, push('c', allowed, "v1")},
	{"a new tag without create", only("a", policies(users("r", "alice"))), push('c', denied, "v1")},
	{"a tag that's there needs update", updates, push('u', allowed, "v1")},
	{"a tag that's there without update", creates, push('u', denied, "v1")},
	{"update without create: zot moves tags", only("a", policies(users("u", "alice"))), push('u', denied, "v1")},
	{"blobs need create", creates, push('c', allowed)},
	{"a digest needs create", creates, push('c', allowed, zotDigest)},
	{"new tags of a digest need create", creates, push('c', allowed, zotDigest, "v1", "v2")},
	{"tags of a digest that are there need update", updates, push('u', allowed, zotDigest, "v1", "v2")},
	{"one tag of a digest that's there without update", creates, push('u', denied, zotDigest, "v1")},
	{"each tag is asked about: one", v1, onlyTag(allowed, zotDigest, "v1")},
	{"each tag is asked about: another", v1, onlyTag(denied, zotDigest, "v1", "v2")},
	{"the tag is asked about", only("a", policies(users("c", "alice").when(tagIs("v1")))), onlyTag(denied, "v2")},
	{
		"update has conditions of its own",
		only("a", policies(users("c", "alice"), users("u", "alice").when(tagIs("v1")))),
		push('u', allowed, "v1"),
	},
	{
		"update has conditions of its own that aren't met",
		only("a", policies(users("c", "alice"), users("u", "alice").when(tagIs("v1")))),
		push('u', denied, "v2"),
	},
	{"delete", only("a", policies(users("d", "alice"))), push('d', allowed, "v1")},
	{"delete isn't part of update", updates, push('d', denied, "v1")},
	{"create isn't to read", creates, alice("a", denied)},
}
