# SPDX-License-Identifier: Apache-2.0
"""Frames of methods: operators, descriptors, class bodies, metaclasses."""

from witness import child, name


class Base:
    def method(self):
        return child()

    @classmethod
    def of_class(cls):
        return child()

    @staticmethod
    def static():
        return child()

    @property
    def value(self):
        return child()

    def __call__(self):
        return child()

    def __add__(self, other):
        return child()

    def __getitem__(self, key):
        return child()

    def __len__(self):
        return child() and 1

    def __eq__(self, other):
        return bool(child())

    def __hash__(self):
        return child()

    def __repr__(self):
        return str(child())

    def __iter__(self):
        yield child()

    def __contains__(self, item):
        return bool(child())

    def __enter__(self):
        child()
        return self

    def __exit__(self, *_):
        child()

    def __getattr__(self, attribute):
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return child()

    def __setattr__(self, attribute, value):
        child()

    def __init_subclass__(cls, **_):
        child()

    def __missing(self):
        return child()

    def private(self):
        return self.__missing()


class Descriptor:
    def __set_name__(self, owner, attribute):
        child()

    def __get__(self, instance, owner):
        return child()

    def __set__(self, instance, value):
        child()

    def __delete__(self, instance):
        child()


def classes():
    name("methods and operators")
    base = Base()
    base.method()
    Base.of_class()
    Base.static()
    base.private()
    base.value
    base()
    base + 1
    base[0]
    len(base)
    base == 1
    hash(base)
    repr(base)
    list(base)
    1 in base
    base.anything
    base.anything = 1
    "{!r} {}".format(base, base.other)
    f"{base!r}"

    name("inheritance")

    class Derived(Base):
        def method(self):
            return super().method()

    Derived().method()

    name("class bodies and metaclasses")

    class Meta(type):
        def __new__(mcs, *arguments):
            child()
            return super().__new__(mcs, *arguments)

        def __call__(cls, *arguments):
            child()
            return super().__call__(*arguments)

        @classmethod
        def __prepare__(mcs, *_, **__):
            child()
            return {}

    class Body(metaclass=Meta):
        value = child()

        class Inner:
            child()
            values = [child() for _ in range(2)]

        def __init__(self):
            child()

        def __new__(cls):
            child()
            return super().__new__(cls)

    Body()

    name("descriptors")

    class Owner:
        attribute = Descriptor()

    owner = Owner()
    owner.attribute
    owner.attribute = 1
    del owner.attribute


SHAPES = (classes,)
