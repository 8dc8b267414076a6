package authz

import "context"

// A Condition is what a rule is bound to: a time, an address, a client. It is safe
// for concurrent use, and fast: a catalog asks it once for each repository.
type Condition interface {
	// Met reports whether the condition is met. An error means that it couldn't be
	// found out, and allows nothing.
	Met(ctx context.Context, c Case) (bool, error)

	// Message is what a client is told whom the rule names, and who is refused
	// because the condition isn't met. Empty: nothing beyond the refusal.
	Message() string
}

// Case is what a condition is asked about.
type Case struct {
	// Question is what was asked in all, with the groups of Config.Groups among
	// those of Who.
	Question Question

	// Access is the one that the rule would allow. A push is asked about twice, the
	// second time as an overwrite, which decides whether it may move the tag. In a
	// list each repository is asked about as what the list wants, such as a list, with
	// no reference.
	Access Access

	// Admin says that some admin rule names Who, whatever it allows.
	Admin bool
}
