//go:build race

package authn_test

// raceDetector says that pools lose things at random.
const raceDetector = true
