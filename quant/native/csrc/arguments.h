/* Python arguments as C values, read one after the other. */
#ifndef QUANT_ARGUMENTS_H
#define QUANT_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include <stdint.h>

/* Integers and addresses in the order in which they are asked for; an error sticks. */
struct reader {
    PyObject *const *args;
    Py_ssize_t left;
};

static int64_t next_size(struct reader *r)
{
    if (PyErr_Occurred())
        return 0;
    if (r->left-- <= 0) {
        PyErr_SetString(PyExc_TypeError, "too few arguments");
        return 0;
    }
    int64_t value = PyLong_AsLongLong(*r->args++);
    if (!PyErr_Occurred() && value < 0)
        PyErr_SetString(PyExc_ValueError, "a size is negative");
    return value;
}

/* An integer from 0 to `last`. */
static int next_choice(struct reader *r, int last)
{
    int64_t value = next_size(r);
    if (!PyErr_Occurred() && value > last)
        PyErr_Format(PyExc_ValueError, "%lld is not one of the %d choices", (long long)value, last + 1);
    return PyErr_Occurred() ? 0 : (int)value;
}

static void *next_address(struct reader *r)
{
    if (PyErr_Occurred())
        return NULL;
    if (r->left-- <= 0) {
        PyErr_SetString(PyExc_TypeError, "too few arguments");
        return NULL;
    }
    PyObject *arg = *r->args++;
    return arg == Py_None ? NULL : PyLong_AsVoidPtr(arg);
}

static double next_number(struct reader *r)
{
    if (PyErr_Occurred())
        return 0;
    if (r->left-- <= 0) {
        PyErr_SetString(PyExc_TypeError, "too few arguments");
        return 0;
    }
    return PyFloat_AsDouble(*r->args++);
}

static int read_all(struct reader *r)
{
    if (!PyErr_Occurred() && r->left)
        PyErr_SetString(PyExc_TypeError, "too many arguments");
    return !PyErr_Occurred();
}

#endif
