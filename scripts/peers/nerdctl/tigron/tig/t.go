// Package tig stands in for the package of the same name in a module that
// nerdctl's go.mod names but that is not published. Only nerdctl's tests use
// it; the program needs no more than that it can be resolved.
package tig

// T is what nerdctl's test helpers ask of a testing.T.
type T interface {
	Helper()
	FailNow()
	Fail()
	Log(args ...any)
	Name() string
	TempDir() string
}
