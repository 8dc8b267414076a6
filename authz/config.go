package authz

// Config is a policy as it's written down. New compiles it, Lint says what's odd
// about it.
//
// A rule is one glob over repository names, the actions that it allows, and to
// whom. All rules with the same glob belong together. Of the globs that match a
// repository only the longest counts, in characters, wherever it stands; nothing is
// inherited from the shorter ones. What the rules of that glob don't allow is
// refused, unless an admin rule allows it.
//
// A glob is made of components with "/" between them, as a name is. "*" matches
// any part of a component, "?" one character, "[a-z]" one of a class, "[^a-z]" one
// that isn't, "{a,b}" either of two globs, and a component "**" any number of
// components, none included: "team/**" matches "team", too.
type Config struct {
	// Rules say who may do what. Default: nobody may do anything.
	Rules []Rule `json:"rules,omitempty"`

	// Admins are asked last, for repositories of any name. Default: none.
	Admins []Admin `json:"admins,omitempty"`

	// NoOverwrite lists tags that can't move to something else. It protects from
	// pushes; who may delete can still delete a tag and push it again. All that
	// match a repository count. Default: none.
	NoOverwrite []NoOverwrite `json:"no_overwrite,omitempty"`

	// ReadOnly are globs of repositories that nobody may push to or delete from,
	// admins included. Default: none.
	ReadOnly []string `json:"read_only,omitempty"`

	// Groups are groups of users beside those that the identity sources know: the
	// names of their members, with "user:" before them or without, or
	// "user@PROVIDER:NAME", by the name of the group.
	// Default: none.
	Groups map[string][]string `json:"groups,omitempty"`
}

// Rule allows actions on the repositories that a glob matches.
type Rule struct {
	// Allow are the actions: pull, push, overwrite, delete, list. Pull implies list.
	// Push is for new tags and for those that stay what they are; to move a tag
	// takes overwrite beside it. At least one.
	Allow []Action `json:"allow"`

	// Repositories is a glob over repository names.
	Repositories string `json:"repositories"`

	// To says who: the name of a user, "group:NAME" for a group of an identity source
	// or of Config.Groups, "anonymous" for who hasn't signed in and nobody else,
	// "authenticated" for everybody who has, "*" for both. "user:NAME" is a user
	// whatever the name looks like. "user@PROVIDER:NAME" and "group@PROVIDER:NAME" are
	// a user and a group as one provider knows them, which is Identity.Provider;
	// "upstream" stands for one that's empty. At least one.
	To []string `json:"to"`

	// Written is where it was written, such as Caddyfile:12, for messages. Default:
	// nobody knows.
	Written string `json:"written,omitempty"`

	// Conditions must all be met, or the rule allows nothing. Default: none.
	Conditions []Condition `json:"-"`
}

// Admin allows actions on every repository, and on the registry as such.
type Admin struct {
	// Allow are the actions, as in a Rule. At least one.
	Allow []Action `json:"allow"`

	// To says who, as in a Rule, but for "anonymous" and "*". At least one.
	To []string `json:"to"`

	// IgnoreNoOverwrite lets these admins move tags that Config.NoOverwrite lists,
	// if overwrite is among Allow. Default: false, they can't be moved by anybody.
	IgnoreNoOverwrite bool `json:"ignore_no_overwrite,omitempty"`

	// Written is where it was written, such as Caddyfile:12, for messages. Default:
	// nobody knows.
	Written string `json:"written,omitempty"`

	// Conditions must all be met, or the rule allows nothing. Default: none.
	Conditions []Condition `json:"-"`
}

// NoOverwrite lists tags that can't move.
type NoOverwrite struct {
	// Tags are globs over tags. At least one.
	Tags []string `json:"tags"`

	// Repositories is a glob over the names of the repositories that have them.
	// Default: "**", all.
	Repositories string `json:"repositories,omitempty"`
}
