"""What is wrong with a data set: duplicates, labels that are likely wrong, outliers, by features of its examples.

Any features serve. Nothing here loads TensorFlow, but for decoding pictures.
"""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.data_checks import check as check
    from tfxfer.data_checks import duplicates as duplicates
    from tfxfer.data_checks import findings as findings
    from tfxfer.data_checks import looks as looks
    from tfxfer.data_checks import neighbours as neighbours
    from tfxfer.data_checks import out_of_fold as out_of_fold
    from tfxfer.data_checks import record as record
    from tfxfer.data_checks import unit_rows as unit_rows
else:
    __getattr__, __dir__ = attach(__name__)
