// SPDX-License-Identifier: Apache-2.0
// What the headers of one CPython (3.7 to 3.15) say, as NAME=VALUE lines: the fields of
// zombiebpf/python/offsets.py.
#define Py_BUILD_CORE 1
#include <Python.h>
#include <frameobject.h>
#include <stddef.h>
#include <stdio.h>

#define MINOR PY_MINOR_VERSION
#if MINOR == 7
#include "internal/pystate.h"
#elif MINOR == 8
#include "pycore_pystate.h"
#else
#include "pycore_interp.h"
#include "pycore_pystate.h"
#include "pycore_runtime.h"
#endif
#if MINOR >= 11
#include "pycore_frame.h"
#endif

#define ABSENT 0xFFFF
#define SAY(name, value) printf("%s=%ld\n", #name, (long)(value))
#define AT(name, type, field) SAY(name, offsetof(type, field))

int main(void)
{
	AT(interpreters_head, _PyRuntimeState, interpreters.head);
	AT(interp_next, PyInterpreterState, next);
#if MINOR >= 11
	AT(threads_head, PyInterpreterState, threads.head);
#else
	AT(threads_head, PyInterpreterState, tstate_head);
#endif
	AT(tstate_next, PyThreadState, next);
	AT(thread_id, PyThreadState, thread_id);

#if MINOR >= 13
	AT(tstate_frame, PyThreadState, current_frame);
	SAY(cframe_frame, ABSENT);
#elif MINOR >= 11
	AT(tstate_frame, PyThreadState, cframe);
	AT(cframe_frame, _PyCFrame, current_frame);
#else
	AT(tstate_frame, PyThreadState, frame);
	SAY(cframe_frame, ABSENT);
#endif

#if MINOR >= 13
	AT(frame_code, _PyInterpreterFrame, f_executable);
	AT(frame_lasti, _PyInterpreterFrame, instr_ptr);
#elif MINOR >= 11
	AT(frame_code, _PyInterpreterFrame, f_code);
	AT(frame_lasti, _PyInterpreterFrame, prev_instr);
#else
	AT(frame_code, PyFrameObject, f_code);
	AT(frame_lasti, PyFrameObject, f_lasti);
#endif
#if MINOR >= 11
	AT(frame_previous, _PyInterpreterFrame, previous);
	AT(frame_owner, _PyInterpreterFrame, owner);
	AT(frame_locals, _PyInterpreterFrame, localsplus);
	AT(code_name, PyCodeObject, co_qualname);
	AT(code_adaptive, PyCodeObject, co_code_adaptive);
#else
	AT(frame_previous, PyFrameObject, f_back);
	SAY(frame_owner, ABSENT);
	AT(frame_locals, PyFrameObject, f_localsplus);
	AT(code_name, PyCodeObject, co_name);
	SAY(code_adaptive, ABSENT);
#endif

	AT(code_firstlineno, PyCodeObject, co_firstlineno);
	AT(code_filename, PyCodeObject, co_filename);
#if MINOR >= 10
	AT(code_table, PyCodeObject, co_linetable);
#else
	AT(code_table, PyCodeObject, co_lnotab);
#endif
	SAY(lasti_scale, MINOR == 10 ? sizeof(_Py_CODEUNIT) : 1);
#if MINOR >= 12
	AT(code_version, PyCodeObject, co_version);
#else
	SAY(code_version, ABSENT);
#endif
	SAY(unicode_ascii, sizeof(PyASCIIObject));
	SAY(unicode_compact, sizeof(PyCompactUnicodeObject));

#if MINOR >= 15
	SAY(tss_key, ABSENT);
#elif MINOR >= 12
	AT(tss_key, _PyRuntimeState, autoTSSkey._key);
#else
	AT(tss_key, _PyRuntimeState, gilstate.autoTSSkey._key);
#endif
#if MINOR >= 14
	SAY(owner_skip, FRAME_OWNED_BY_INTERPRETER);
#elif MINOR >= 12
	SAY(owner_skip, FRAME_OWNED_BY_CSTACK);
#else
	SAY(owner_skip, ABSENT);
#endif
	SAY(minor, MINOR);
	return 0;
}
