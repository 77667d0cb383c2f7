"""The program `courier`, also `python -m courier_tf`."""

from courier_tf.interruption import stopped_in_one_line


def main() -> None:
    """Runs the command line of this process."""
    with stopped_in_one_line() as watch:
        from courier_tf.process import prepare

        prepare()
        watch()
        from courier_tf.commands.program import main as run

        run()


if __name__ == "__main__":
    main()
