package storage

// A Diagnoser is a Store that looks at the medium it's on, for whoever runs it.
type Diagnoser interface {
	// Diagnose says what was found so far. It asks nobody.
	Diagnose() []Check
}

// Check is something about its medium that a Store has looked at.
type Check struct {
	// Name is a word, one of few that the backend has.
	Name string `json:"name"`

	Verdict Verdict `json:"verdict"`

	// Says is what was found and what it means, in a sentence.
	Says string `json:"says"`
}

// Verdict says what has come of a Check.
type Verdict string

// The verdicts.
const (
	Pending Verdict = "pending" // nothing yet
	Good    Verdict = "good"
	Warning Verdict = "warning" // it works, and has a price
	Bad     Verdict = "bad"     // so the store isn't written to
	Unknown Verdict = "unknown" // it can't be found out, or needn't be
)
